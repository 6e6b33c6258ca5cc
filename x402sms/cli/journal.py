"""What a job did, as its events told it: every number, how it ended, what came back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from x402sms.cli.receipts import NOTHING, charged_total, counted, total
from x402sms.errors import NoCodeReceived
from x402sms.money import usdc

if TYPE_CHECKING:
    from x402sms.cli.run import Run
    from x402sms.verifying import Verification
    from x402sms.virtualsms.effects import Event, Received
    from x402sms.virtualsms.models import Order

# `kept` is a rental; `received` was not confirmed, which the service does by itself in the end.
Ending = Literal["confirmed", "received", "cancelled", "not cancelled", "kept"]


@dataclass
class Number:
    """A number that was bought. `previous` are those it had before a swap."""

    order: Order
    resumed: bool
    previous: list[str] = field(default_factory=list)
    ended: Ending | None = None
    refund: Decimal | None = None
    why: str | None = None

    def document(self) -> dict[str, Any]:
        return {
            "order_id": self.order.order_id,
            "phone_number": self.order.phone_number,
            "previous_numbers": self.previous,
            "country": self.order.country,
            "price": self.order.price,
            "resumed": self.resumed,
            "ended": self.ended,
            "refund": self.refund,
            "why": self.why,
        }


class Journal:
    """The job's `on_event`: writes down, then passes on. A job that `rents` keeps its number."""

    def __init__(self, run: Run, watch: Callable[[Event], None], *, rents: bool) -> None:
        self._run = run
        self._watch = watch
        self._rents = rents
        self._job: Verification | None = None
        self.numbers: list[Number] = []
        self.left_out: list[dict[str, str]] = []
        self.swaps = 0
        self.received: Received | None = None

    @contextmanager
    def of(self, job: Verification) -> Iterator[None]:
        """While `job` runs; what came of it is the run's afterwards."""
        self._job = job
        try:
            yield
        except BaseException as error:
            self._close(error)
            raise
        else:
            self._close(None)
        finally:
            self._run.facts = self.facts()
            self._run.summary = self.summary()

    @property
    def number(self) -> Number | None:
        """The last one."""
        return self.numbers[-1] if self.numbers else None

    @property
    def refunded(self) -> Decimal:
        """USDC that is known to have come back."""
        return sum((number.refund or NOTHING for number in self.numbers), NOTHING)

    @property
    def cost(self) -> Decimal:
        """USDC promised and not known to be void, less what came back."""
        return self.paid - self.refunded

    @property
    def paid(self) -> Decimal:
        """USDC promised or charged, and not known to be void."""
        return total(self._run.made) + charged_total(self._run.charged)

    def __call__(self, event: Event) -> None:
        from x402sms.virtualsms import effects

        self._take_in(resumed=isinstance(event, effects.Bought) and event.resumed)
        match event:
            case effects.LeftOut(country, reason):
                self.left_out.append({"country": country, "reason": reason})
            case effects.Swapped(order):
                self._swapped(order)
            case effects.Received():
                self.received = event
                self._end("received")
            case effects.Confirmed():
                self._end("confirmed")
            case effects.Cancelled(_, refund):
                self._end("cancelled", refund=refund)
            case effects.NotCancelled(_, reason):
                self._end("not cancelled", why=reason)
            case _:
                pass
        self._watch(event)

    def facts(self) -> dict[str, Any]:
        """For `--json`, of a job that has ended well or badly."""
        number = self.number
        order = None if number is None else number.order
        return {
            "order_id": None if order is None else order.order_id,
            "phone_number": None if order is None else order.phone_number,
            "country": None if order is None else order.country,
            "price": None if order is None else order.price,
            "cost": self.cost,
            "paid": self.paid,
            "refunded": self.refunded,
            "swaps": self.swaps,
            "numbers": [each.document() for each in self.numbers],
            "left_out": self.left_out,
            "intent": None if self._job is None else self._job.intent,
        }

    def summary(self) -> str:
        """What it cost, as a sum: the numbers, the calls around them, what came back."""
        charged = self._run.charged
        made = [payment for payment in self._run.made if payment.state != "void"]
        if charged:
            numbers = f"{_numbers(len(charged))} {usdc(charged_total(charged))}"
            return f"{usdc(self.cost)} USDC of the balance = {numbers}{self._back()}"
        if not made:
            return ""
        bought = [payment for payment in made if self._run.is_purchase(payment)]
        calls = [payment for payment in made if payment not in bought]
        sure = all(payment.state == "settled" for payment in made)
        start = f"{'' if sure else 'at most '}{usdc(self.cost)} USDC"
        if not bought:
            return f"{start} for {counted(calls)}; no number bought"
        sums = [f"{_numbers(len(bought))} {usdc(total(bought))}"]
        if calls:
            sums.append(f"{counted(calls, 'other call')} {usdc(total(calls))}")
        return f"{start} = {' + '.join(sums)}{self._back()}"

    def _back(self) -> str:
        return f" - {usdc(self.refunded)} refunded" if self.refunded else "; nothing refunded"

    def _take_in(self, *, resumed: bool) -> None:
        """The job's order is one of its numbers, also where nobody was told that it was bought."""
        if self._job is None:
            return
        try:
            order = self._job.order
        except NoCodeReceived:
            return  # it has none now
        if self.numbers and self.numbers[-1].order.order_id == order.order_id:
            return
        # Paid for by an earlier run, it is part of what this one costs.
        ledger = self._run.ledger
        paid = (each for each in ledger.payments() if each.delivered == order.order_id)
        if (payment := next(paid, None)) is not None:
            ledger.take_over(payment)
        self.numbers.append(Number(order, resumed))

    def _swapped(self, order: Order) -> None:
        self.swaps += 1
        number = self.numbers[-1]
        number.previous.append(number.order.phone_number or "")
        number.order = order

    def _end(self, how: Ending, *, refund: Decimal | None = None, why: str | None = None) -> None:
        number = self.number
        if number is not None:
            number.ended, number.refund, number.why = how, refund, why

    def _close(self, error: BaseException | None) -> None:
        """Whatever has no end yet was left as it was."""
        number = self.number
        if number is None:
            return
        if self._rents:
            number.ended = "kept"
        elif number.ended is None and error is not None:
            self._end("not cancelled", why="it was left open")


def _numbers(count: int) -> str:
    return "number" if count == 1 else f"{count} numbers"
