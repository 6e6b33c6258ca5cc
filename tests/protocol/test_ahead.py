"""Paying with the first request: one nonce all the same, and never more than one settlement."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.lawful import assert_lawful
from tests.protocol.parts import (
    NOW,
    RECIPIENT,
    STRANGER,
    Played,
    Said,
    example,
    payer,
    play,
    purchase,
    refused,
    settled,
    stored,
    unb64,
    v1,
    v1_entry,
    v1_message,
    v2,
    v2_entry,
    v2_message,
)
from tests.protocol.test_flow_states import ANSWERS, CHAIN, PAUSES, RECALLED, is_foreign, resumes
from x402sms.errors import (
    ChallengeError,
    ClockSkew,
    LedgerError,
    NoAcceptableOffer,
    PaymentRefused,
    PaymentUnknown,
    SpendLimitExceeded,
)
from x402sms.protocol.effects import (
    NeverSent,
    Prepay,
    Quote,
    Remember,
    Remembered,
    Reserve,
    Send,
    Sign,
)
from x402sms.protocol.types import Attempt, PaymentState
from x402sms.protocol.wire import Headers

ROUTE = "GET https://seller.example /sms"
READ = purchase(method="GET", route=ROUTE)


def quote_of(said: Said, bought: str = READ.fingerprint) -> Quote:
    """What is remembered of a challenge."""
    return Quote(Headers(said.headers).of_a_challenge(), said.body, bought)


QUOTES: dict[str, Quote] = {
    "v2": quote_of(v2()),
    "v1": quote_of(v1()),
    "header": quote_of(example()),
    "of another resource": quote_of(v2(), "e" * 64),
    "beyond the limits": quote_of(v2(v2_message(v2_entry(amount="5000000")))),
    "on another chain": quote_of(v2(v2_message(v2_entry(network="eip155:1")))),
    "malformed": quote_of(v2("!")),
    "no challenge": Quote((), b"{}", READ.fingerprint),
}
PAYABLE = ("v2", "v1", "header", "of another resource")


def ahead(
    *answers: Said | BaseException,
    quote: str = "v2",
    prepay: Prepay = Prepay.AUTO,
    buying: Any = READ,
    **changes: Any,
) -> Played:
    by = payer(prepay=prepay, pauses=changes.pop("pauses", ()), limits=changes.pop("limits", None))
    played = play(answers, by=by, buying=buying, quote=QUOTES.get(quote), **changes)
    assert_lawful(played, by, changes.get("recalled"))
    return played


def sends(played: Played) -> list[bool]:
    """Of each request, whether it paid."""
    return [send.payment is not None for send in played.driver.all_of(Send)]


@pytest.mark.parametrize("quote", PAYABLE)
def test_a_call_pays_with_its_first_request(quote: str) -> None:
    played = ahead(settled(), quote=quote)

    assert sends(played) == [True]
    assert played.receipt is not None
    assert (played.receipt.state, played.receipt.prepaid) == (PaymentState.SETTLED, True)
    assert played.receipt.risked is None
    assert not played.driver.all_of(Remember)


@pytest.mark.parametrize("dialect", ["v2", "v1", "header"])
def test_what_was_paid_is_remembered_as_it_was_asked(dialect: str) -> None:
    said = {"v2": v2(), "v1": v1(), "header": example()}[dialect]
    played = ahead(said, settled(), quote="none")

    assert sends(played) == [False, True]
    assert played.receipt is not None
    assert played.receipt.prepaid is None
    assert played.driver.all_of(Remember) == [Remember(ROUTE, quote_of(said))]


@pytest.mark.parametrize(
    "answer", [refused(), Said(200), Said(404), ANSWERS["lost"]], ids=["no", "200", "404", "lost"]
)
def test_an_offer_that_nobody_took_is_no_price(answer: Said | BaseException) -> None:
    played = ahead(v2(), answer, quote="none")

    assert not played.driver.all_of(Remember)


@pytest.mark.parametrize(
    ("prepay", "method", "amount", "kept"),
    [
        (Prepay.NEVER, "GET", "1", 0),
        (Prepay.AUTO, "GET", "10000", 1),
        (Prepay.AUTO, "GET", "10001", 0),
        (Prepay.AUTO, "POST", "1", 0),
        (Prepay.ALWAYS, "POST", "10001", 1),
    ],
)
def test_what_never_pays_ahead_is_not_remembered(
    prepay: Prepay, method: str, amount: str, kept: int
) -> None:
    buying = purchase(method=method, route=ROUTE)
    asked = v2(v2_message(v2_entry(amount=amount)))
    played = ahead(asked, settled(amount=amount), quote="none", prepay=prepay, buying=buying)

    assert len(played.driver.all_of(Remember)) == kept


@pytest.mark.parametrize(
    ("prepay", "method", "amount", "pays"),
    [
        (Prepay.NEVER, "GET", 1_000, False),
        (Prepay.AUTO, "GET", 10_000, True),
        (Prepay.AUTO, "HEAD", 1_000, True),
        (Prepay.AUTO, "GET", 10_001, False),
        (Prepay.AUTO, "POST", 1_000, False),
        (Prepay.ALWAYS, "POST", 10_001, True),
    ],
)
def test_what_pays_ahead(prepay: Prepay, method: str, amount: int, pays: bool) -> None:
    kept = quote_of(v2(v2_message(v2_entry(amount=str(amount)))))
    by = payer(prepay=prepay)
    played = play([settled()], by=by, buying=purchase(method=method, route=ROUTE), quote=kept)

    assert sends(played) == [pays]
    # Whoever does not pay ahead does not even look.
    looks = prepay is not Prepay.NEVER and not (prepay is Prepay.AUTO and method == "POST")
    assert bool(played.driver.all_of(Remembered)) is looks


@pytest.mark.parametrize("quote", sorted(QUOTES.keys() - set(PAYABLE)))
def test_what_may_not_be_paid_now_is_asked_for(quote: str) -> None:
    played = ahead(v2(), settled(), quote=quote, prepay=Prepay.ALWAYS)

    assert sends(played) == [False, True]
    assert played.receipt is not None
    assert played.receipt.prepaid is None


def test_a_budget_that_has_no_room_for_what_it_was_is_asked_what_it_is() -> None:
    full = SpendLimitExceeded("full", limit="per_day")
    played = ahead(v2(v2_message(v2_entry(amount="1"))), settled(), failures={Reserve: full})

    assert sends(played) == [False, True]
    assert played.authorization.amount_atomic == 1


def test_a_ledger_that_fails_lets_nothing_be_signed() -> None:
    played = ahead(settled(), failures={Reserve: LedgerError("disk full")})

    assert isinstance(played.error, LedgerError)
    assert (sends(played), played.driver.all_of(Sign)) == ([], [])


@pytest.mark.parametrize(
    ("price", "to", "small"), [("20000", RECIPIENT, False), ("5", STRANGER, True)]
)
def test_a_price_that_moved_is_signed_under_the_same_nonce(
    price: str, to: str, small: bool
) -> None:
    now = v2(v2_message(v2_entry(amount=price, payTo=to)))
    played = ahead(now, settled(amount=price))

    assert sends(played) == [True, True]
    first, second = (sign.authorization for sign in played.driver.all_of(Sign))
    assert first.nonce == second.nonce
    assert second.amount_atomic == int(price)
    assert played.receipt is not None
    assert (played.receipt.prepaid, played.receipt.risked) == (False, Decimal("0.01"))
    # What is not small any more is asked for.
    assert played.driver.all_of(Remember) == [Remember(ROUTE, quote_of(now) if small else None)]


def test_a_server_that_wants_its_own_offer_answered_gets_that_and_is_asked_from_then_on() -> None:
    fresh = v2(v2_message(v2_entry(), resource={"url": "https://seller.example/sms?fresh"}))
    played = ahead(fresh, settled())

    assert sends(played) == [True, True]
    message = unb64(played.paid_headers[-1][1])
    assert message["resource"] == {"url": "https://seller.example/sms?fresh"}
    assert played.receipt is not None
    assert (played.receipt.prepaid, played.receipt.state) == (False, PaymentState.SETTLED)
    assert played.driver.all_of(Remember) == [Remember(ROUTE, None)]


def test_of_another_resource_only_the_price_is_taken() -> None:
    (_, header) = ahead(settled(), quote="of another resource").paid_header

    assert "resource" not in unb64(header)
    (_, own) = ahead(settled(), quote="v2").paid_header
    assert "resource" in unb64(own)


def test_what_was_paid_is_remembered_and_not_what_was_asked_after_it() -> None:
    cheaper = v2(v2_message(v2_entry(amount="5000")))
    cheapest = v2(v2_message(v2_entry(amount="1000")))
    played = ahead(cheaper, cheapest, settled(amount="5000"), pauses=(0.5,))

    assert sends(played) == [True, True, True]
    assert played.driver.all_of(Remember) == [Remember(ROUTE, quote_of(cheaper))]


@pytest.mark.parametrize(("price", "kept"), [("5000", 1), ("10001", 0)])
def test_of_a_price_that_moved_between_the_asking_and_the_paying_the_last_is_remembered(
    price: str, kept: int
) -> None:
    asked = v2(v2_message(v2_entry(amount="1000")))
    moved = v2(v2_message(v2_entry(amount=price)))
    played = ahead(asked, moved, settled(amount=price), quote="none")

    assert sends(played) == [False, True, True]
    assert played.receipt is not None
    assert (played.receipt.prepaid, played.receipt.risked) == (None, None)
    assert played.driver.all_of(Remember) == [Remember(ROUTE, quote_of(moved))] * kept


@pytest.mark.parametrize("error", ["payment required", "invalid_exact_evm_authorization"])
def test_a_clock_that_is_off_is_found_out_by_the_answer(error: str) -> None:
    behind = v2(v2_message(error=error)).with_headers(("Date", "Fri, 15 Jan 2027 07:00:00 GMT"))
    played = ahead(behind, pauses=(0.5, 1.0))

    assert sends(played) == [True]  # the same again would be refused again
    assert isinstance(played.error, PaymentRefused)
    assert isinstance(played.error.__cause__, ClockSkew)
    assert "this machine's clock is 60 min 0 s ahead" in str(played.error)
    assert played.driver.all_of(Remember) == [Remember(ROUTE, None)]


def test_a_price_beyond_the_limits_is_not_signed() -> None:
    played = ahead(ANSWERS["beyond the limits"], settled())

    assert sends(played) == [True]
    assert isinstance(played.error, PaymentRefused)
    assert isinstance(played.error.__cause__, SpendLimitExceeded)
    assert played.driver.all_of(Remember) == [Remember(ROUTE, None)]


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (Said(200), PaymentState.UNKNOWN),
        (ANSWERS["302"], PaymentState.UNKNOWN),
        (ANSWERS["404"], PaymentState.REFUSED),
    ],
    ids=["free now", "elsewhere now", "not there"],
)
def test_what_did_not_settle_is_asked_for_the_next_time(answer: Said, state: PaymentState) -> None:
    played = ahead(answer)

    assert sends(played) == [True]
    assert played.receipt is not None
    assert (played.receipt.state, played.receipt.prepaid) == (state, True)
    assert played.driver.all_of(Remember) == [Remember(ROUTE, None)]


@pytest.mark.parametrize(
    ("answer", "error"), [("lost", PaymentUnknown), ("insufficient funds", PaymentRefused)]
)
def test_what_failed_is_asked_for_the_next_time(answer: str, error: type[Exception]) -> None:
    played = ahead(ANSWERS[answer])

    assert isinstance(played.error, error)
    assert played.driver.all_of(Remember) == [Remember(ROUTE, None)]


def test_without_a_connection_nothing_was_paid() -> None:
    played = ahead(NeverSent("refused"))

    assert isinstance(played.error, NeverSent)
    assert [record.state for record in played.records] == [PaymentState.VOID]


@pytest.mark.parametrize("state", ["reserved", "unknown", "settled"])
def test_a_purchase_that_is_known_goes_on_as_it_was(state: str) -> None:
    known = stored(PaymentState(state), method="GET")
    played = ahead(
        settled(),
        recalled=known,
        buying=purchase(method="GET", route=ROUTE, intent_given=True),
        prepay=Prepay.ALWAYS,
    )

    assert not played.driver.all_of(Remembered)
    assert played.authorization == known.attempt.authorization


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), asyncio.CancelledError()])
@pytest.mark.parametrize(
    ("answers", "quote", "written"),
    [
        ([v2(), settled()], "none", PaymentState.SETTLED),
        ([Said(200)], "v2", PaymentState.UNKNOWN),
        ([refused()], "v2", PaymentState.REFUSED),
    ],
    ids=["paid", "free now", "refused"],
)
def test_an_interruption_while_it_remembers_changes_nothing_that_is_written(
    answers: list[Said], quote: str, written: PaymentState, interrupt: BaseException
) -> None:
    played = ahead(*answers, quote=quote, failures={Remember: interrupt})

    assert played.error is interrupt
    assert [record.state for record in played.records] == [written]


def attempts_of(played: Played) -> list[Attempt]:
    return [reserve.attempt for reserve in played.driver.all_of(Reserve)]


def test_what_is_reserved_is_what_is_signed_and_sent() -> None:
    played = ahead(settled())

    (attempt,) = attempts_of(played)
    assert played.authorization == attempt.authorization
    assert json.loads(json.dumps(attempt.template))["accepted"] == v2_entry()
    assert attempt.authorization.valid_before > NOW


# --- every course, as in test_flow_states


def course(
    answers: list[str],
    chain: list[str],
    recalled: str,
    pauses: tuple[float, ...],
    quote: str,
    **more: Any,
) -> Played:
    known = RECALLED[recalled]
    by = payer(pauses=pauses, prepay=Prepay.ALWAYS)
    said = [ANSWERS[name] for name in answers]
    asks = quote not in PAYABLE or is_foreign(known)
    played = play(
        said if resumes(known) or not asks else [v2(), *said],
        by=by,
        recalled=known,
        chain=[CHAIN[name] for name in chain],
        quote=QUOTES.get(quote),
        **more,
    )
    assert_lawful(played, by, None if is_foreign(known) else known)
    return played


@pytest.mark.parametrize("chain", sorted(CHAIN))
@pytest.mark.parametrize("first", sorted(ANSWERS))
def test_every_two_answers_to_a_payment_ahead_end_lawfully(first: str, chain: str) -> None:
    for second in sorted(ANSWERS):
        try:
            course([first, second], [chain], "nothing", (0.5, 1.0), "v2")
        except AssertionError as error:
            error.add_note(f"after {first!r}, then {second!r}")
            raise


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=6),
    st.just(["no RPC"]) | st.lists(st.sampled_from(sorted(CHAIN.keys() - {"no RPC"})), min_size=1),
    st.sampled_from(sorted(RECALLED)),
    st.sampled_from(PAUSES),
    st.sampled_from(sorted(QUOTES)),
    st.integers(0, 40),
    st.sampled_from([KeyboardInterrupt(), asyncio.CancelledError()]),
)
def test_any_course_ahead_is_lawful_wherever_it_is_interrupted(
    answers: list[str],
    chain: list[str],
    recalled: str,
    pauses: tuple[float, ...],
    quote: str,
    number: int,
    interrupt: BaseException,
) -> None:
    course(answers, chain, recalled, pauses, quote, failing_at={number: interrupt})


@pytest.mark.parametrize("error", [ChallengeError("x", field="y"), NoAcceptableOffer("none")])
def test_what_a_fresh_challenge_would_raise_only_makes_it_ask(error: Exception) -> None:
    played = ahead(v2(), settled(), failures={Reserve: error})

    assert sends(played) == [False, True]


def test_a_v1_entry_is_remembered_whole() -> None:
    kept = quote_of(v1(v1_message(v1_entry(maxAmountRequired="7"))))
    by = payer(prepay=Prepay.AUTO)
    played = play([settled(amount="7")], by=by, buying=READ, quote=kept)

    assert played.authorization.amount_atomic == 7
