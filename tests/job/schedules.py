"""Random fault schedules, each from a seed of its own, and what must be true after each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any

from tests.buyer import Colour
from tests.job.accounts import adds_up, audited
from tests.job.scene import (
    BUY,
    CANCEL,
    CONFIRM,
    LIST,
    LOOK,
    POLL,
    SWAP,
    Moment,
    Result,
    Road,
    Scene,
    staged,
)
from x402sms import errors
from x402sms.looking import ARRIVED_BY_NOW
from x402sms.protocol.types import PaymentState
from x402sms.sandbox import FAULTS, Fault
from x402sms.sandbox.orders import ACTIVE, Order, Status
from x402sms.virtualsms.effects import Bought, NotCancelled, Swapped

INTENT = "job-1"
# What befalls every call seldom lets a job come as far as its number: most faults are aimed.
ROUTES = (None, BUY, LIST, LOOK, POLL, POLL, SWAP, SWAP, CANCEL, CANCEL, CONFIRM)
PRICES = {"US": "0.10", "GB": "0.12", "DE": "0.20"}

# How a job may end without a code, and why.
DOCUMENTED = (
    errors.NoCodeReceived,  # no SMS, and what became of the order
    errors.NoStock,  # no country under the ceiling had a number left
    errors.SpendLimitExceeded,  # every price went above the ceiling
    errors.PaymentUnknown,  # a paid request got no answer, however often
    errors.PaymentRefused,  # the server says that it did not take the payment
    errors.AlreadyPaid,  # it is paid for, and the answer does not come again
    errors.HostNotReachable,  # an unpaid request got no answer
    errors.ServerError,  # 5xx, however often
    errors.UnreadableResponse,  # an answer that was cut short, however often
    errors.RateLimited,  # 429 beyond the deadline
)


@dataclass(frozen=True)
class Plan:
    """One schedule: everything in it follows from the seed."""

    seed: str
    faults: tuple[Fault, ...]
    config: dict[str, Any]
    options: dict[str, Any]
    late: bool  # an SMS comes to the number that was swapped out

    @classmethod
    def of(cls, seed: str) -> Plan:
        chance = Random(seed)  # noqa: S311  repeatable, not secret
        faults = tuple(
            Fault(name, round(chance.uniform(0.02, 0.5), 3), chance.choice(ROUTES))
            for name in FAULTS
            if chance.random() < 0.4
        )
        sms_after = chance.choice([None, chance.uniform(1, 110), chance.uniform(125, 290)])
        config = {
            "sms_after": sms_after,
            "price_drift": chance.choice([None, None, 1, 3]),
            "rate_limit": chance.choice([None, None, None, 20]),
            "fault_seed": chance.randrange(2**32),
            "vocabulary": chance.choice(["reference", "live"]),
        }
        options = {
            "max_swaps": chance.randrange(3),
            "max_numbers": chance.randrange(1, 4),
            "timeout": chance.choice([45, 180, 300, 600]),
            "max_total": chance.choice([None, None, "0.25", "1"]),
        }
        # A poll in the live vocabulary does not say to which number its message came.
        late = chance.random() < 0.3 and config["vocabulary"] == "reference"
        return cls(seed, faults, config, options, late)


@dataclass
class Tally:
    """Of many schedules: how they ended, and in how many the documented next step was needed."""

    ended: Counter[str] = field(default_factory=Counter)
    next_steps: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        shown = ", ".join(f"{count} {name}" for name, count in self.ended.most_common())
        steps = dict(self.next_steps)
        return f"{shown}; next steps {steps}; {sum(self.struck.values())} faults"


def run(
    plan: Plan, colour: Colour, tally: Tally, *, road: Road = "x402", honours: bool = True
) -> None:
    """Run it, and assert all that must hold.

    A service that does not know a purchase by its name makes two of one that reaches it twice.
    """
    faults = [fault for fault in plan.faults if honours or fault.name != "duplicate"]
    with staged(
        colour, only=PRICES, faults=faults, road=road, honours=honours, **plan.config
    ) as scene:
        if plan.late:
            scene.at(Moment(SWAP, "after"), lambda: _late(scene))
        ended = scene.receive(intent=INTENT, **plan.options)
        tally.ended[type(ended.error or ended.code).__name__] += 1
        tally.struck.update(scene.sandbox.faults_struck())
        assert ended.code is not None or isinstance(ended.error, DOCUMENTED), repr(ended.error)
        _check_money(scene, ended)
        if ended.code is not None:
            _check_code(scene, ended)
        waiting = [each for each, status in _orders(scene) if status == "waiting"]
        if waiting or ended.refunded != scene.books[1]:
            _take_next_step(scene, ended, waiting, tally)
        assert "waiting" not in scene.orders
        audited(scene)


def _late(scene: Scene) -> None:
    order = scene.sandbox.state.orders.all()[0]
    if order.previous_number is not None and order.status in ACTIVE:
        scene.sandbox.deliver_sms(order.order_id, "Your late code is 999999", to_previous=True)


def _check_money(scene: Scene, ended: Result) -> None:
    adds_up(scene, ended)
    if isinstance(ended.error, errors.NoCodeReceived):
        assert ended.error.cost in (None, ended.cost)
        assert ended.error.refunded in (None, ended.refunded)
    if ended.code is not None:
        assert ended.code.cost == ended.cost


def _check_code(scene: Scene, ended: Result) -> None:
    code = ended.code
    assert code is not None
    order = _order(scene, code.order_id)
    handed_over = [
        each.order.phone_number for each in ended.events if isinstance(each, Bought | Swapped)
    ][-1]
    if handed_over != order.phone_number:  # swapped once more, and no answer ever said so
        assert handed_over == order.previous_number
        done = scene.paid(SWAP) if scene.road == "x402" else scene.sent(SWAP)  # free, in REST
        assert done > len(ended.told(Swapped))
    own = [sms for sms in order.messages if sms.phone_number == handed_over]
    assert own, "a code, and no SMS came to the number that was handed over"
    assert code.phone_number == handed_over
    assert code.text in [sms.content for sms in own]
    assert code.code == own[-1].code


def _take_next_step(scene: Scene, ended: Result, waiting: list[str], tally: Tally) -> None:
    """What the error says: the same job again with the same intent, or `orders cancel`.

    An order whose cancel is not known to have worked is either still open or refunded.
    """
    left = {each.order_id for each in ended.told(NotCancelled)}
    told = set(waiting) <= left
    scene.sandbox.set_faults({})
    if not told:
        assert _says_what_next(scene, ended.said, waiting), f"{ended.said!r} leaves {waiting}"
        tally.next_steps["same intent"] += 1
        if scene.road == "rest":  # then, if it is not there, it will not come any more
            scene.sandbox.advance(ARRIVED_BY_NOW)
        again = scene.receive(intent=INTENT, timeout=300)
        assert again.code is not None or isinstance(again.error, errors.NoCodeReceived)
        return
    assert left, "money came back, and the job does not know whether it did"
    tally.next_steps["orders cancel"] += 1
    scene.sandbox.advance(120)
    for order_id in left:
        assert f"`x402sms orders cancel {order_id}`" in ended.said or "is over" in ended.said
        if _order(scene, order_id).status is Status.WAITING:  # no SMS came meanwhile
            scene.wait_for(partial(scene.client.orders.cancel, order_id))
    refunded = {each.order_id: each for each in scene.sandbox.state.orders.all()}
    known = sum((refunded_of(refunded[each]) for each in left), Decimal(0))
    assert ended.refunded + known == scene.books[1]


def _says_what_next(scene: Scene, said: str, waiting: list[str]) -> bool:
    """Whether an error names each order that is left with the command that ends it, or else the
    intent that it may be paid for under with the command that finds it."""
    if waiting and all(f"`x402sms orders cancel {each}`" in said for each in waiting):
        return True
    if scene.road == "rest":
        in_doubt = [each for each in scene.charges if each.state is PaymentState.UNKNOWN]
        return any(repr(each.intent) in said for each in in_doubt)
    undelivered = [
        row.intent
        for row in scene.rows
        if (row.method, row.url) == ("POST", f"{scene.sandbox.url}/orders")
        and row.state is not PaymentState.VOID
        and row.delivered is None
    ]
    named = any(repr(intent) in said for intent in undelivered)
    return named and "`x402sms recover`" in said


def refunded_of(order: Order) -> Decimal:
    return Decimal(sum(record.refunded_atomic for record in order.charges)) / 10**6


def _orders(scene: Scene) -> list[tuple[str, str]]:
    return scene.sandbox.orders_of(scene.payer)


def _order(scene: Scene, order_id: str) -> Order:
    [order] = [each for each in scene.sandbox.state.orders.all() if each.order_id == order_id]
    return order
