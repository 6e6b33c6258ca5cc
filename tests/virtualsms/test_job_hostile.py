"""Whatever a service answers, at whatever moment: the job ends, within its bounds, and honestly."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.virtualsms.scripted import (
    EPOCH,
    ERRORS,
    ORDINARY,
    PRICE,
    Answer,
    Scripted,
    instant,
    name_of,
    terms,
)
from x402sms.errors import X402SMSError
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.effects import (
    Announce,
    Bought,
    Buy,
    Cancelled,
    Make,
    NotCancelled,
    Waiting,
)
from x402sms.virtualsms.job import Code, Job, Terms
from x402sms.virtualsms.verification import receive_code

MOST_CANCELS = 40  # calls, of one number
OPENING = 180 + 120  # seconds until the first number is there
ENDING = 2 * 600 + 2 * 120  # seconds for the end of one number
SWAPPING = 120 + 120  # seconds for one swap and the look after it

STATUSES = [
    "created",
    "waiting",
    "pending",
    "swapped",
    "received",
    "sms_received",
    "completed",
    "confirmed",
    "cancelled",
    "expired",
    "failed",
    "teleported",
    "",
    None,
    7,
]
INSTANTS = [
    None,
    0,
    "not a time",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z",
    instant(EPOCH - 3600),
    instant(EPOCH + 60),
    instant(EPOCH + 150),
    instant(EPOCH + 4000),
]
TEXTS = ["Telegram code 12345", "Code 123-456", "Hello there", "", "Код: 998877", "999"]
NUMBERS = [None, "+447700900101", "447700900101", "+447700900155", "", "n/a", 44]

messages = st.lists(
    st.fixed_dictionaries(
        {"content": st.sampled_from(TEXTS)},
        optional={
            "received_at": st.sampled_from(INSTANTS),
            "phone_number": st.sampled_from(NUMBERS),
            "sender": st.sampled_from([None, "Telegram", 5]),
        },
    ),
    max_size=3,
)
odd_orders = st.fixed_dictionaries(
    {},
    optional={
        "order_id": st.sampled_from(["o1", "o7", "a/b", "", None]),
        "status": st.sampled_from(STATUSES),
        "phone_number": st.sampled_from(NUMBERS),
        "price": st.sampled_from([None, "x", -1, "0.15"]),
        "created_at": st.sampled_from(INSTANTS),
        "expires_at": st.sampled_from(INSTANTS),
        "cancel_available_at": st.sampled_from(INSTANTS),
        "swap_available_at": st.sampled_from(INSTANTS),
        "rules": st.sampled_from([None, {}, {"cancel_cooldown_seconds": 10**9}, 5]),
        "sms_received": st.sampled_from([True, False, "no", None]),
        "messages": messages | st.none(),
        "success": st.booleans(),
        "is_final": st.booleans(),
    },
)
odd_polls = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(STATUSES),
        "code": st.sampled_from([None, "12345", "123456", "", 5]),
        "full_text": st.sampled_from([None, *TEXTS]),
        "messages": messages | st.none(),
    },
)
odd_cancellations = st.fixed_dictionaries(
    {},
    optional={
        "success": st.sampled_from([True, False, None, "yes"]),
        "status": st.sampled_from(STATUSES),
        "refund_amount": st.sampled_from([None, "0.15", "0", "x"]),
    },
)
odd_offers = st.lists(
    st.fixed_dictionaries(
        {"price": st.sampled_from(["0.15", "0.18", "0.25", "0.40", "x"])},
        optional={
            "country": st.sampled_from(["GB", "DE", "US", "12", "", None]),
            "stock": st.sampled_from([0, 5, True, False, "low_stock", "out_of_stock"]),
        },
    ),
    max_size=4,
)
nonsense: st.SearchStrategy[Any] = st.sampled_from(
    [None, [], {}, "", "<html>", 5, {"success": False}]
)
ODD: dict[str, st.SearchStrategy[Any]] = {
    "availability": odd_offers,
    "poll": odd_polls,
    "cancel": odd_cancellations,
    "get": odd_orders,
    "swap": odd_orders,
    "buy": odd_orders,
    "confirm": odd_orders,
}


class Hostile:
    """Answers each call as drawn: ordinarily, with an error, with its answer lost, or oddly.

    The first `calm` calls are answered ordinarily, and those in `always` with one error each time.
    """

    def __init__(self, data: st.DataObject, honest: int, calm: int, always: dict[str, str]) -> None:
        self.data, self.calm, self.always = data, calm, always
        self.kinds = ["ordinary"] * honest + ["error", "lost", "odd", "nonsense"]
        self.sent: list[str] = []

    def __call__(self, service: Scripted, effect: Any) -> Answer:  # noqa: PLR0911
        name = name_of(effect.call)
        if len(service.calls) <= self.calm:
            return ORDINARY
        if name in self.always:
            return ERRORS[self.always[name]]()
        kind = self.data.draw(st.sampled_from(self.kinds), label=name)
        if kind == "ordinary":
            return ORDINARY
        if kind == "error":
            return ERRORS[self.data.draw(st.sampled_from(sorted(ERRORS)))]()
        if kind == "nonsense" or name not in ODD:
            return self.data.draw(nonsense)
        done = self._done(service, effect)
        if kind == "lost":
            lost = ["payment-unknown", "unreadable", "server", "rate-paid"]
            return ERRORS[self.data.draw(st.sampled_from(lost))]()
        odd: Any = self.data.draw(ODD[name])
        if isinstance(done, dict) and name in ("buy", "get", "swap"):
            odd = {key: value for key, value in (done | odd).items() if value != "x"}
        self._note(odd)
        return odd

    def _done(self, service: Scripted, effect: Any) -> Any:
        """What an honest service would do and say."""
        try:
            if isinstance(effect, Buy):
                return service._bought(effect)
            answer = service.answer(effect.call)
        except X402SMSError:
            return None
        self._note(answer)
        return answer

    def _note(self, answer: Any) -> None:
        if isinstance(answer, dict):
            listed = answer.get("messages") or []
            texts = [answer.get("full_text"), *(each["content"] for each in listed)]
            self.sent += [text for text in [*texts, str(answer.get("code"))] if text is not None]


any_terms = st.builds(
    terms,
    max_swaps=st.integers(0, 2),
    max_numbers=st.integers(1, 3),
    max_total=st.sampled_from([None, Decimal("0.20"), Decimal("0.50")]),
    country=st.sampled_from([None, "GB", "germany"]),
    swap_after=st.sampled_from([0, 5, 120, 300]),
)
timeouts = st.sampled_from([0, 1, 4, 29, 60, 180, 400, 1500])


@pytest.mark.parametrize("honest", [0, 8, 30], ids=["wild", "rough", "mild"])
@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    data=st.data(),
    wanted=any_terms,
    timeout=timeouts,
    sms_after=st.sampled_from([None, 20, 150]),
    ahead=st.sampled_from([0, -20, 90, -600, 86_400]),
    interrupted=st.sampled_from([None, None, None, *range(60)]),
    calm=st.sampled_from([0, 2, 2, 3, 3, 4, 5, 6]),
    always=st.dictionaries(
        st.sampled_from(["poll", "swap", "cancel", "get", "confirm"]),
        st.sampled_from(sorted(ERRORS)),
        max_size=2,
    ),
)
def test_it_ends_within_its_bounds_and_says_the_truth(
    honest: int,
    data: st.DataObject,
    wanted: Terms,
    timeout: float,
    sms_after: float | None,
    ahead: float,
    interrupted: int | None,
    calm: int,
    always: dict[str, str],
) -> None:
    hostile = Hostile(data, honest, calm, always)
    service = Scripted(
        hostile,
        sms_after=sms_after,
        ahead=ahead,
        interrupt={} if interrupted is None else {interrupted: KeyboardInterrupt()},
        limit=4000,
    )
    job = Job(wanted)
    code: Code | None = None
    error: BaseException | None = None
    try:
        code = service.run(receive_code(job, timeout))
    except (X402SMSError, KeyboardInterrupt) as raised:
        error = raised
    note(f"{error!r} {[(at, name) for at, name, _ in service.calls]}")
    assert error is None or isinstance(error, X402SMSError) or interrupted is not None
    _assert_bounded(service, wanted, timeout)
    _assert_polls(service, wanted, timeout)
    _assert_one_number_at_a_time(service, wanted)
    over = {job.order.order_id} if job.order is not None and job.order.is_final else set()
    _assert_nothing_is_left(service, error, over)
    if code is not None and code.text is not None:
        assert code.text in [*hostile.sent, *service.sent_texts, *_texts(service)]
    if code is not None and code.code is not None and code.text is None:
        assert code.code in hostile.sent


def _texts(service: Scripted) -> list[str]:
    return [message["content"] for held in service.orders.values() for message in held.messages]


def _numbers(wanted: Terms) -> int:
    return wanted.max_numbers


def _assert_bounded(service: Scripted, wanted: Terms, timeout: float) -> None:
    numbers, swaps = wanted.max_numbers, wanted.max_swaps
    assert service.now <= OPENING + timeout + numbers * ENDING + (swaps + 3) * SWAPPING + 300
    refusals = sum(1 for name in _answered_429(service) if name == "swap")
    assert service.count("swap") - refusals <= swaps + 3
    assert service.count("cancel") <= MOST_CANCELS * numbers
    assert len(service.buys) <= 60 * numbers


def _answered_429(service: Scripted) -> list[str]:
    """Calls made again at once after a pause: the same call twice in a row."""
    names = [name for _, name, _ in service.calls]
    return [name for name, following in pairwise(names) if name == following]


def _assert_polls(service: Scripted, wanted: Terms, timeout: float) -> None:
    times = service.times_of("poll")
    assert all(later - earlier >= 5 for earlier, later in pairwise(times))
    rhythms = wanted.max_numbers + wanted.max_swaps + 3
    assert len(times) <= 6 * rhythms + timeout / 60 + 1
    left = 0.0
    for effect in service.effects:
        match effect:
            case Announce(event=Waiting(seconds=seconds)):
                left = seconds
            case Make(call=Call(long_poll_seconds=length)) if length:
                assert length <= min(180, left)


def _assert_one_number_at_a_time(service: Scripted, wanted: Terms) -> None:
    """What is bought under another intent is bought when the one before is known to be cancelled,
    and all under one intent is one purchase."""
    by_intent: dict[str, set[str]] = {}
    known: set[str] = set()
    bought: list[str] = []
    for effect in service.effects:
        match effect:
            case Buy(intent=intent, purchase=purchase):
                assert by_intent.setdefault(intent, {purchase}) == {purchase}
                open_ones = [order_id for order_id in bought if order_id not in known]
                if intent != _last(by_intent, intent):
                    continue
                assert len(by_intent) == 1 or not open_ones or wanted.max_total is not None
            case Announce(event=Bought(order=order)):
                bought.append(order.order_id)
            case Announce(event=Cancelled(order_id=order_id)):
                known.add(order_id)
    assert len(by_intent) <= _numbers(wanted)
    assert len(service.orders) <= _numbers(wanted)
    assert all(held.price <= wanted.max_price for held in service.orders.values())
    if wanted.max_total is not None:
        lost = [held.price for key, held in service.orders.items() if key not in known]
        assert sum(lost) <= max(wanted.max_total, PRICE)


def _last(by_intent: dict[str, set[str]], intent: str) -> str:
    return list(by_intent)[-1] if by_intent else intent


def _assert_nothing_is_left(service: Scripted, error: BaseException | None, over: set[str]) -> None:
    """What was bought was confirmed, or asked to be cancelled, or is known to be over."""
    told = [
        event.order_id for event in service.events if isinstance(event, Cancelled | NotCancelled)
    ]
    said = "" if error is None else "\n".join([str(error), *getattr(error, "__notes__", ())])
    for order_id in {event.order.order_id for event in service.told(Bought)} - over:
        ended = [
            call.path for _, _, call in service.calls if call.path.endswith(("/cancel", "/confirm"))
        ]
        asked = any(f"/{order_id}/" in path for path in ended)
        assert asked or order_id in told or order_id in said or error is None, order_id
