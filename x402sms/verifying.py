"""The job on a client: `sms.verification(...)`, in both colours. Its logic is in `virtualsms/`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, assert_never

import anyio

from x402sms.base_client import Mailbox, Meter, counted_by
from x402sms.clock import Clock
from x402sms.driver import drive, drive_async
from x402sms.job_options import Wanted, checked_seconds
from x402sms.limits import Amount
from x402sms.steady import in_thread
from x402sms.virtualsms.calls import Call, labelled
from x402sms.virtualsms.effects import (
    Announce,
    Buy,
    Cancelled,
    CheckMail,
    Confirmed,
    Earlier,
    Effect,
    Event,
    HeldBack,
    Make,
    NotCancelled,
    Now,
    Paused,
    Recall,
    Sleep,
    Spent,
    UnixTime,
)
from x402sms.virtualsms.job import Code, Job
from x402sms.virtualsms.models import Order, Sms
from x402sms.virtualsms.verification import (
    close_after,
    enter,
    extend,
    leave,
    next_messages,
    receive_code,
    release,
    wait,
)

T = TypeVar("T")


class Caller(Protocol):
    """What a job is run on: `Client`."""

    clock: Clock
    mailbox: Mailbox | None

    def call(
        self, call: Call[T], *, intent: str | None = None, max_price: Amount | None = None
    ) -> T: ...

    def create_order(
        self,
        call: Call[Order],
        *,
        intent: str | None = None,
        purchase: str | None = None,
        max_price: Amount | None = None,
    ) -> Order: ...

    def earlier(self, intent: str, purchase: str) -> Earlier | None: ...


class AsyncCaller(Protocol):
    """What a job is run on, awaited: `AsyncClient`."""

    clock: Clock
    mailbox: Mailbox | None

    async def call(
        self, call: Call[T], *, intent: str | None = None, max_price: Amount | None = None
    ) -> T: ...

    async def create_order(
        self,
        call: Call[Order],
        *,
        intent: str | None = None,
        purchase: str | None = None,
        max_price: Amount | None = None,
    ) -> Order: ...

    def earlier(self, intent: str, purchase: str) -> Earlier | None: ...


# Told while an order is being ended, or while something is tried again: that goes on.
_ENDING = HeldBack | Cancelled | NotCancelled | Confirmed | Paused


class _OfACallback(Exception):
    """What a callback raised: to the job it is none of its own errors, whatever it is."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error

    def unwrapped(self) -> Exception:
        """The callback's own exception, with what was noted of the order."""
        for note in getattr(self, "__notes__", ()):
            self.error.add_note(note)
        return self.error


class _View:
    """What a job shows of itself."""

    def __init__(self, wanted: Wanted, mailbox: Mailbox | None) -> None:
        self._wanted = wanted
        self._mailbox = mailbox
        self._job = Job(wanted.terms, order=wanted.order, mail=mailbox is not None)
        # Whose order is known already only listens: that has its price, whatever it is.
        self._ceiling = wanted.terms.max_price if wanted.order is None else None
        self._meter = Meter()
        self._begun = False
        self._late: Exception | None = None  # of a callback, while the order was being ended

    @property
    def order(self) -> Order:
        """The present order. Raises NoCodeReceived where there is none (any more)."""
        return self._job.need_order()

    @property
    def phone_number(self) -> str:
        """The present number; a swap changes it."""
        return self.order.phone_number or ""

    @property
    def code(self) -> Code | None:
        """The last code that was received."""
        return self._job.code

    @property
    def intent(self) -> str:
        """What names the job; given to another, it goes on with this one's order."""
        return self._wanted.terms.intent

    @property
    def cost(self) -> Decimal:
        """USDC that the job has cost so far: all its calls and numbers, less what was refunded.

        What may have been paid counts as paid until it is known.
        """
        return self._meter.total + self._job.paid_before - self._job.refunded

    @property
    def refunded(self) -> Decimal:
        """USDC that is known to have come back."""
        return self._job.refunded

    def _begin(self) -> None:
        if self._begun:
            raise RuntimeError("this job has begun already: each needs a verification of its own")
        self._begun = True

    def _tell(self, event: Event) -> None:
        """Whoever watches. What that raises stops the job, but never the end of an order."""
        if self._late is not None and not isinstance(event, _ENDING):
            raise _OfACallback(self._late)
        try:
            self._wanted.watch(event)
        except Exception as error:
            if not isinstance(event, _ENDING):
                raise _OfACallback(error) from error
            self._late = self._late or error

    @contextmanager
    def _watched(self, leaving_with: BaseException | None = None) -> Iterator[None]:
        """What a callback raised comes out as it was, with what became of the order noted to it.

        It does not come in the place of what a block is being left with, nor of Ctrl-C.
        """
        try:
            yield
        except _OfACallback as raised:
            self._late = None
            raise raised.unwrapped() from raised.error.__cause__
        except Exception as error:
            late = self._take_late()
            if late is None:
                raise
            for said in (str(error), *getattr(error, "__notes__", ())):
                late.add_note(said)
            raise late from error
        except BaseException:
            self._late = None
            raise
        late = self._take_late()
        if late is None:
            return
        if leaving_with is None:
            raise late
        leaving_with.add_note(f"while the order was ended, a callback raised {late!r}")

    def _take_late(self) -> Exception | None:
        late, self._late = self._late, None
        return late

    def _labelled(self, call: Call[T]) -> Call[T]:
        """What the ledger says that this call of the job is for."""
        return labelled(call, self._job.order, self._wanted.labels)

    def _mail(self, order_id: str) -> tuple[Sms, ...]:
        return () if self._mailbox is None else tuple(self._mailbox.messages(order_id))

    def _here(self, effect: Now | UnixTime | Spent | Announce, clock: Clock) -> object:
        match effect:
            case Now():
                return clock.now()
            case UnixTime():
                return clock.time()
            case Spent():
                return self._meter.total
            case Announce():
                self._tell(effect.event)
                return None
            case _:
                assert_never(effect)


class Verification(_View):
    """A job with its number. A context manager: entering buys the number, leaving confirms what
    was received or cancels for the refund; a rental is kept.

        with sms.verification("telegram", max_price="0.30") as job:
            print(job.phone_number)
            print(job.wait(timeout=180).code)
    """

    def __init__(self, client: Caller, wanted: Wanted) -> None:
        super().__init__(wanted, client.mailbox)
        self._client = client

    def wait(self, timeout: float = 180, *, give_up: bool = True) -> Code:
        """The next code, within `timeout` seconds.

        A silent number is swapped; one that stays silent is cancelled for its refund, unless
        `give_up` is false or it is a rental. Raises NoCodeReceived, saying what came of the
        order, and whatever else a call may raise.
        """
        seconds = checked_seconds("timeout", timeout)
        return self._run(wait(self._job, seconds, give_up=give_up))

    def messages(self, timeout: float = 180) -> Iterator[Sms]:
        """Each message to the number once, as it comes; ends after `timeout` seconds without."""
        seconds = checked_seconds("timeout", timeout)
        while batch := self._run(next_messages(self._job, seconds)):
            yield from batch

    def extend(self, hours: int) -> None:
        """Buy more hours of a rental, under the same ceiling."""
        self._run(extend(self._job, hours))

    def release(self) -> None:
        """End a rental early; whether that is refunded varies."""
        self._run(release(self._job))

    def receive(self, timeout: float) -> Code:
        """The whole job at once."""
        seconds = checked_seconds("timeout", timeout)
        self._begin()
        return self._run(receive_code(self._job, seconds, resume=self._wanted.resume))

    def __enter__(self) -> Self:
        self._begin()
        self._run(enter(self._job, resume=self._wanted.resume))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        logic = leave(self._job) if error is None else close_after(self._job, error)
        self._run(logic, error)

    def _run(
        self, logic: Generator[Effect, Any, T], leaving_with: BaseException | None = None
    ) -> T:
        with self._watched(leaving_with):
            return drive(logic, self._perform)
        raise RuntimeError("unreachable")  # for mypy: a context manager might swallow an exception

    def _perform(self, effect: Effect) -> object:
        client, ceiling = self._client, self._ceiling
        match effect:
            case Make():
                with counted_by(self._meter):
                    call = self._labelled(effect.call)
                    return client.call(call, intent=effect.intent, max_price=ceiling)
            case Buy():
                with counted_by(self._meter):
                    return client.create_order(
                        self._labelled(effect.call),
                        intent=effect.intent,
                        purchase=effect.purchase,
                        max_price=effect.max_price,
                    )
            case Recall():
                return client.earlier(effect.intent, effect.purchase)
            case CheckMail():
                return self._mail(effect.order_id)
            case Sleep():
                client.clock.sleep(effect.seconds)
                return None
            case _:
                return self._here(effect, client.clock)


class AsyncVerification(_View):
    """`Verification`, to be awaited. A task that is cancelled cancels the order."""

    def __init__(self, client: AsyncCaller, wanted: Wanted) -> None:
        super().__init__(wanted, client.mailbox)
        self._client = client
        self._stopped = False

    async def wait(
        self,
        timeout: float = 180,  # noqa: ASYNC109  how long to wait for an SMS, not for a call
        *,
        give_up: bool = True,
    ) -> Code:
        """`Verification.wait`, to be awaited."""
        seconds = checked_seconds("timeout", timeout)
        return await self._run(wait(self._job, seconds, give_up=give_up))

    async def messages(
        self,
        timeout: float = 180,  # noqa: ASYNC109  how long to wait for an SMS, not for a call
    ) -> AsyncIterator[Sms]:
        """Each message to the number once, as it comes; ends after `timeout` seconds without."""
        seconds = checked_seconds("timeout", timeout)
        while batch := await self._run(next_messages(self._job, seconds)):
            for message in batch:
                yield message

    async def extend(self, hours: int) -> None:
        """`Verification.extend`, to be awaited."""
        await self._run(extend(self._job, hours))

    async def release(self) -> None:
        """`Verification.release`, to be awaited."""
        await self._run(release(self._job))

    async def receive(
        self,
        timeout: float,  # noqa: ASYNC109  how long to wait for an SMS, not for a call
    ) -> Code:
        """The whole job at once."""
        seconds = checked_seconds("timeout", timeout)
        self._begin()
        return await self._run(receive_code(self._job, seconds, resume=self._wanted.resume))

    async def __aenter__(self) -> Self:
        self._begin()
        await self._run(enter(self._job, resume=self._wanted.resume))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped = self._stopped or isinstance(error, anyio.get_cancelled_exc_class())
        logic = leave(self._job) if error is None else close_after(self._job, error)
        await self._run(logic, error)

    async def _run(
        self, logic: Generator[Effect, Any, T], leaving_with: BaseException | None = None
    ) -> T:
        with self._watched(leaving_with):
            return await drive_async(logic, self._perform)
        raise RuntimeError("unreachable")  # for mypy: a context manager might swallow an exception

    async def _perform(self, effect: Effect) -> object:
        # Once cancelled, the order is still to be cancelled: what is left is shielded, since a
        # cancel scope would cancel each of its calls again.
        result: object = None
        with anyio.CancelScope(shield=self._stopped):
            try:
                result = await self._do(effect)
            except anyio.get_cancelled_exc_class():
                self._stopped = True
                raise
        return result

    async def _do(self, effect: Effect) -> object:
        client, ceiling = self._client, self._ceiling
        match effect:
            case Make():
                with counted_by(self._meter):
                    call = self._labelled(effect.call)
                    return await client.call(call, intent=effect.intent, max_price=ceiling)
            case Buy():
                with counted_by(self._meter):
                    return await client.create_order(
                        self._labelled(effect.call),
                        intent=effect.intent,
                        purchase=effect.purchase,
                        max_price=effect.max_price,
                    )
            case Recall():
                return await in_thread(partial(client.earlier, effect.intent), effect.purchase)
            case CheckMail():
                return await in_thread(self._mail, effect.order_id)
            case Sleep():
                await client.clock.sleep_async(effect.seconds)
                return None
            case _:
                return self._here(effect, client.clock)
