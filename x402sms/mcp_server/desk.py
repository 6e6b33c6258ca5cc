"""The jobs of `receive_code`: each a task that goes on between an agent's calls.

Whoever stops waiting for a job by cancelling that call, or ends the server, cancels its order for
the refund. A job that nobody asks for ends at its own time-out.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import anyio

from x402sms.client import AsyncClient
from x402sms.errors import ConfigError, IntentConflict, NoCodeReceived
from x402sms.job_options import JobOptions
from x402sms.mcp_server.inputs import ReceiveCode
from x402sms.mcp_server.telling import complaint
from x402sms.text import one_line
from x402sms.verifying import AsyncVerification
from x402sms.virtualsms.effects import (
    Bought,
    Cancelled,
    Event,
    HeldBack,
    Received,
    Swapped,
)
from x402sms.virtualsms.job import Code, left_open
from x402sms.virtualsms.models import Order

MOST_OPEN = 10
MOST_KEPT = 200  # with those that have ended
GRACE = 10.0  # seconds for all orders together, as the server ends
LAST_WORD = 1.0  # seconds for a job that is told to leave its order as it is


class Job:
    """A number that was bought, or is being bought, and the task that waits for its SMS."""

    def __init__(self, client: AsyncClient, asked: ReceiveCode) -> None:
        options: JobOptions = {
            "country": asked.country,
            "max_swaps": asked.max_swaps,
            "max_numbers": 1,
            "intent": asked.intent,
            "rental_hours": asked.rental_hours,
            "on_event": self._take_in,
        }
        self.id = f"job_{secrets.token_hex(8)}"
        self.asked = asked
        self._clock = client.clock
        self.verification: AsyncVerification = client.verification(
            asked.service or "", max_price=asked.max_price or "", **options
        )
        self.order: Order | None = None
        self.previous: list[str] = []
        self.told_number: str | None = None  # the one that the agent knows
        self.received: Received | None = None
        self.code: Code | None = None
        self.error: Exception | None = None
        self.held_for: float | None = None
        self.stopping = False
        self._cancelled: bool | None = None
        self.over = asyncio.Event()
        self.news = asyncio.Event()  # set, and replaced, with each event
        self._gives_up_at = self._clock.now() + asked.timeout_seconds
        self._task: asyncio.Task[None] | None = None

    @property
    def intent(self) -> str:
        return self.verification.intent

    @property
    def seconds_left(self) -> int:
        if self.over.is_set():
            return 0
        return max(0, round(self._gives_up_at - self._clock.now()))

    @property
    def cancelled(self) -> bool:
        """Whether its order is known to be cancelled."""
        return isinstance(self.error, NoCodeReceived) and self.error.cancelled is True

    @property
    def number_changed(self) -> bool:
        """Whether the agent knows another number than the present one."""
        return self.order is not None and self.order.phone_number != self.told_number

    async def ended_within(self, seconds: float) -> None:
        """Return once it is over, the time is, or the service holds its order for longer."""
        with anyio.move_on_after(seconds) as scope:
            while not (self.over.is_set() or self._is_held_until(scope.deadline)):
                await self.news.wait()

    def _is_held_until(self, deadline: float) -> bool:
        return self.held_for is not None and anyio.current_time() + self.held_for > deadline

    def begin(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self.id)

    def stop(self) -> None:
        """Cancel the order for its refund, in the task's own time."""
        if self.over.is_set() or self.stopping or self._task is None:
            return
        self.stopping = True
        self._task.cancel()
        self._tell()

    def abandon(self) -> None:
        """Leave the order as it is: a task that is cancelled twice does not end it any more."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            async with self.verification as job:
                self._gives_up_at = self._clock.now() + self.asked.timeout_seconds
                await job.wait(self.asked.timeout_seconds)
        except asyncio.CancelledError as stop:
            self.error = self._stopped(stop)
        except Exception as error:  # noqa: BLE001  told to whoever asks for the job
            self.error = error
        finally:
            self.code = self.verification.code
            self.over.set()
            self._tell()

    def _stopped(self, stop: BaseException) -> NoCodeReceived:
        """What became of it: the notes of a cancellation say that of the order."""
        notes = list(dict.fromkeys(getattr(stop, "__notes__", ())))
        order, job = self.order, self.verification
        if order is not None and not notes:
            notes = [left_open(order)]
        if order is None:
            notes.append(
                f"no number is known to be bought; if one was, the intent {self.intent!r} finds it"
            )
        return NoCodeReceived(
            f"the job was stopped before an SMS came; {'; '.join(notes)}",
            order_id=None if order is None else order.order_id,
            cancelled=self._cancelled,
            refunded=job.refunded,
            cost=job.cost,
        )

    def _take_in(self, event: Event) -> None:
        self.held_for = event.seconds if isinstance(event, HeldBack) else None
        match event:
            case Bought(order):
                self.order = order
            case Swapped(order):
                if self.order is not None and self.order.phone_number is not None:
                    self.previous.append(self.order.phone_number)
                self.order = order
            case Received():
                self.received = event
            case Cancelled():
                self._cancelled = True
            case _:
                pass
        self._tell()

    def _tell(self) -> None:
        news, self.news = self.news, asyncio.Event()
        news.set()


class Desk:
    """All jobs of one server. An async context manager: leaving it ends them within `grace`.

    `say` gets a line for each order that is being cancelled, or is left open.
    """

    def __init__(
        self, client: AsyncClient, *, say: Callable[[str], None], grace: float = GRACE
    ) -> None:
        self.client = client
        self._say = say
        self._grace = grace
        self._jobs: dict[str, Job] = {}
        self._closed = False
        self._closing = asyncio.Lock()
        self._buying: list[str] = []  # the tools that buy now

    @contextmanager
    def buying(self, tool: str) -> Iterator[None]:
        """While it runs, a tool may have paid for what nobody will hear of."""
        self._buying.append(tool)
        try:
            yield
        except asyncio.CancelledError:
            self._say_interrupted([tool])
            raise
        finally:
            self._buying.remove(tool)

    @property
    def is_buying(self) -> bool:
        return bool(self._buying)

    def say_what_is_interrupted(self) -> None:
        """Before the program ends with calls under way."""
        self._say_interrupted(self._buying)

    def _say_interrupted(self, tools: Sequence[str]) -> None:
        for tool in tools:
            self._say(
                f"{tool} was stopped while it ran, and may have been paid for: `x402sms recover` "
                "finds what it bought; with an API key, `x402sms orders list`"
            )

    @property
    def open(self) -> list[Job]:
        return [job for job in self._jobs.values() if not job.over.is_set()]

    def get(self, job_id: str) -> Job:
        """Raises ValueError for a job that this server does not have."""
        if (job := self._jobs.get(job_id)) is None:
            raise ValueError(
                f"no job {one_line(job_id, 50)!r} here: it is of another run of this server, or "
                "long over. list_orders shows what was bought"
            )
        return job

    def of_order(self, order_id: str) -> Job | None:
        """The open job whose order it is."""
        jobs = (job for job in self.open if job.order and job.order.order_id == order_id)
        return next(jobs, None)

    def start(self, asked: ReceiveCode) -> Job:
        """A new job; the one that is there already under the same intent.

        Raises IntentConflict where that one is for something else, ConfigError for too many.
        """
        if self._closed:
            raise ConfigError("this server is ending; nothing was bought")
        if asked.intent is not None and (job := self._under(asked.intent)) is not None:
            return _same(job, asked)
        if len(self.open) >= MOST_OPEN:
            raise ConfigError(
                f"{MOST_OPEN} jobs are open already, so nothing was bought: wait for one, or end "
                "it with cancel_order"
            )
        job = Job(self.client, asked)
        self._forget_old()
        self._jobs[job.id] = job
        job.begin()
        return job

    def _under(self, intent: str) -> Job | None:
        """Still open, or with its code: one that ended without may be tried again."""
        jobs = (job for job in self._jobs.values() if job.intent == intent)
        return next((job for job in jobs if not job.over.is_set() or job.code), None)

    def _forget_old(self) -> None:
        over = [job.id for job in self._jobs.values() if job.over.is_set()]
        for job_id in over[: max(0, len(self._jobs) - MOST_KEPT)]:
            del self._jobs[job_id]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Cancel every open job's order, and say what is left open. Once; others wait for it."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            async with self._closing:
                await self._end_all()

    async def _end_all(self) -> None:
        ending, self._jobs = self.open, {}
        for job in ending:
            # Said first: whoever started this server may end it at any moment.
            self._say(f"the server ends: {_of(job)} is being cancelled for its refund")
            job.stop()
        last = anyio.current_time() + self._grace
        for job in ending:
            await job.ended_within(last - anyio.current_time())
        for job in ending:
            if not job.over.is_set():
                job.abandon()
        with anyio.move_on_after(LAST_WORD):
            for job in ending:
                await job.over.wait()
        for job in ending:
            self._say(_last_word(job))


def _same(job: Job, asked: ReceiveCode) -> Job:
    terms = ("service", "country", "rental_hours")
    if any(getattr(job.asked, name) != getattr(asked, name) for name in terms):
        raise IntentConflict(
            f"the intent {job.intent!r} is of the job {job.id} already, which is for something "
            "else; nothing was bought. Use another intent",
            intent=job.intent,
        )
    return job


def _of(job: Job) -> str:
    return f"{job.id} ({job.intent})" if job.order is None else f"the order {job.order.order_id}"


def _last_word(job: Job) -> str:
    if job.code is not None:
        return f"{_of(job)} had its SMS before it was ended"
    if job.over.is_set() and job.error is not None:
        return complaint(job.error)
    return f"{_of(job)} was left as it is" if job.order is None else left_open(job.order)
