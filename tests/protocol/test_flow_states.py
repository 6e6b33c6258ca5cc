"""The paid call over many answers: presented again, priced anew, resumed, checked on the chain."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
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
    TRANSACTION,
    WALLET,
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
    v1_message,
    v2,
    v2_entry,
    v2_message,
)
from x402sms.errors import (
    AlreadyPaid,
    IntentConflict,
    LedgerError,
    NoAcceptableOffer,
    PaymentRefused,
    PaymentUnknown,
    SigningFailed,
    SpendLimitExceeded,
)
from x402sms.limits import SpendLimits
from x402sms.protocol.effects import (
    CheckChain,
    NeverSent,
    Now,
    ReadBody,
    Recall,
    Record,
    Reserve,
    Send,
    Settle,
    Sign,
    Sleep,
    Stored,
)
from x402sms.protocol.types import (
    OnChain,
    OnChainCancelled,
    OnChainSettled,
    OnChainUnread,
    OnChainUnused,
    PaymentState,
)
from x402sms.wallet import sign

SETTLED_IN = "0x" + "cd" * 32
UNREAD = OnChainUnread("the RPC answered 429")
EARLY = OnChainUnused(NOW + 1)
LATE = OnChainUnused(NOW + 5000)
CANCELLED = OnChainCancelled(SETTLED_IN)
ON_CHAIN = OnChainSettled(SETTLED_IN, RECIPIENT, 10_000)
PROBLEM = (("Content-Type", "application/problem+json"),)
HTML = (("Content-Type", "text/html"),)


class Lost(Exception):
    """The network failed after the request had left."""


def priced(**changes: Any) -> Said:
    return v2(v2_message(v2_entry(**changes)))


ANSWERS: dict[str, Said | BaseException] = {
    "settled": settled(),
    "settled, on another network": settled(network="eip155:1"),
    "settled, by another payer": settled(payer=STRANGER),
    "settled, another amount": settled(amount="1"),
    "settled and 402": settled(402),
    "settled and 500": settled(500),
    "settled and 402 at another price": priced(amount="20000").with_headers(*settled().headers),
    "unreadable settlement and 402": Said(402, (("PAYMENT-RESPONSE", "!"),)),
    "200 without a settlement": Said(200),
    "302": Said(302, (("Location", "https://elsewhere.example/"),)),
    "insufficient funds": refused("insufficient_funds"),
    "invalid": refused("invalid_exact_evm_payload_signature"),
    "nonce already used": refused("invalid_exact_evm_nonce_already_used"),
    "nonce already used, in v1": v1(v1_message(error="invalid_exact_evm_nonce_already_used")),
    "unexplained": refused(""),
    "the same 402 again": v2(),
    "402 in v1": v1(v1_message(error="try again")),
    "402 problem": Said(402, PROBLEM, b'{"type": "insufficient-balance"}'),
    "malformed 402": v2("!"),
    "dearer": priced(amount="20000"),
    "dearer, for a shorter time": priced(amount="20000", maxTimeoutSeconds=30),
    "cheaper": priced(amount="5000"),
    "to another": priced(payTo=STRANGER),
    "beyond the limits": priced(amount="5000000"),
    "on another chain only": priced(network="eip155:1"),
    "404": Said(404, PROBLEM, b"{}"),
    "500": Said(500, HTML),
    "502": Said(502, HTML),
    "503": Said(503, HTML),
    "503 problem": Said(503, PROBLEM, b"{}"),
    "lost": Lost("read timed out"),
    "no connection": NeverSent("refused"),
    "cancelled": asyncio.CancelledError(),
    "ctrl-c": KeyboardInterrupt(),
}
CHAIN: dict[str, OnChain | None] = {
    "no RPC": None,
    "settled": ON_CHAIN,
    "cancelled": CANCELLED,
    "unused so far": EARLY,
    "unused for good": LATE,
    "unread": UNREAD,
}
RECALLED: dict[str, Stored | None] = {
    "nothing": None,
    "reserved": stored(PaymentState.RESERVED),
    "unknown": stored(PaymentState.UNKNOWN, valid_before=NOW + 3600),
    "refused": stored(PaymentState.REFUSED, amount_atomic=30_000),
    "unknown, its window over": stored(PaymentState.UNKNOWN, valid_before=NOW - 100),
    "settled": stored(PaymentState.SETTLED),
    "void": stored(PaymentState.VOID),
    "of something else": stored(PaymentState.SETTLED, fingerprint="e" * 64),
}
PAUSES = [(), (0.5,), (0.5, 1.0, 2.0), (100.0,)]

names_of_answers = st.lists(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=6)
names_of_what_the_chain_says = st.just(["no RPC"]) | st.lists(
    st.sampled_from(sorted(CHAIN.keys() - {"no RPC"})), min_size=1, max_size=4
)


def course(
    answers: Iterable[str],
    chain: Iterable[str] = ("no RPC",),
    recalled: str = "nothing",
    pauses: tuple[float, ...] = (0.5, 1.0),
    **settings_of_play: Any,
) -> Played:
    """A call whose first request is answered by a challenge, unless it is resumed."""
    known = RECALLED[recalled]
    said = [ANSWERS[name] for name in answers]
    played = play(
        said if resumes(known) else [v2(), *said],
        by=payer(pauses=pauses),
        recalled=known,
        chain=[CHAIN[name] for name in chain],
        **settings_of_play,
    )
    assert_lawful(played, payer(pauses=pauses), None if is_foreign(known) else known)
    return played


def is_foreign(known: Stored | None) -> bool:
    return known is not None and known.attempt.fingerprint != purchase().fingerprint


def resumes(known: Stored | None) -> bool:
    """Whether the first thing sent is the payment that is known already."""
    if known is None or is_foreign(known) or known.state is PaymentState.VOID:
        return False
    in_time = known.attempt.authorization.valid_before > NOW
    return in_time or known.state is PaymentState.SETTLED


# --- every course


@pytest.mark.parametrize("chain", sorted(CHAIN))
@pytest.mark.parametrize("first", sorted(ANSWERS))
def test_every_two_answers_to_a_payment_end_lawfully(first: str, chain: str) -> None:
    for second in sorted(ANSWERS):
        try:
            course([first, second], [chain])
        except AssertionError as error:
            error.add_note(f"after {first!r}, then {second!r}")
            raise


@pytest.mark.parametrize("chain", sorted(CHAIN))
@pytest.mark.parametrize("recalled", sorted(RECALLED))
def test_whatever_is_recalled_is_resumed_lawfully(recalled: str, chain: str) -> None:
    for answer in sorted(ANSWERS):
        for pauses in PAUSES:
            try:
                course([answer], [chain], recalled, pauses)
            except AssertionError as error:
                error.add_note(f"answered {answer!r}, with the pauses {pauses}")
                raise


@settings(max_examples=400, deadline=None)
@given(
    names_of_answers,
    names_of_what_the_chain_says,
    st.sampled_from(sorted(RECALLED)),
    st.sampled_from(PAUSES),
)
def test_any_course_is_lawful(
    answers: list[str], chain: list[str], recalled: str, pauses: tuple[float, ...]
) -> None:
    course(answers, chain, recalled, pauses)


DOCUMENTED: dict[type[object], list[BaseException]] = {
    Recall: [LedgerError("disk")],
    Reserve: [LedgerError("disk full")],
    Record: [LedgerError("disk full")],
    Settle: [LedgerError("disk full")],
    Sign: [SigningFailed("the device was unplugged")],
    Send: [Lost(), NeverSent()],
    ReadBody: [Lost()],
}
SCENES: dict[str, tuple[list[str], list[str], str]] = {
    "settled": (["settled"], ["no RPC"], "nothing"),
    "settled, seen on the chain": (["settled"], ["unread", "settled"], "nothing"),
    "settled, not seen": (["settled"], ["unused so far"], "nothing"),
    "refused": (["insufficient funds"], ["no RPC"], "nothing"),
    "refused for now": (["unexplained", "settled"], ["no RPC"], "nothing"),
    "lost, then settled": (["lost", "500", "settled"], ["no RPC"], "nothing"),
    "lost for good": (["lost"], ["unread"], "nothing"),
    "lost and expired": (["lost"], ["unused for good"], "nothing"),
    "used": (["nonce already used"], ["settled"], "nothing"),
    "dearer": (["dearer", "settled"], ["no RPC"], "nothing"),
    "dearer after a loss": (["lost", "dearer", "settled"], ["no RPC"], "nothing"),
    "dearer and lost": (["dearer", "lost"], ["no RPC"], "nothing"),
    "resumed": (["settled"], ["no RPC"], "reserved"),
    "resumed and refused": (["insufficient funds"], ["no RPC"], "unknown"),
    "resumed and dearer": (["dearer", "settled"], ["no RPC"], "unknown"),
    "asked again": (["503", "settled"], ["no RPC"], "settled"),
    "settled meanwhile": (["200 without a settlement"], ["settled"], "unknown, its window over"),
    "expired meanwhile": (["settled"], ["unused for good"], "unknown, its window over"),
    "signed anew": (["settled"], ["no RPC"], "unknown, its window over"),
}


def effects_of(scene: str) -> list[object]:
    answers, chain, recalled = SCENES[scene]
    return list(course(answers, chain, recalled).driver.effects)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError()], ids=repr)
@pytest.mark.parametrize("scene", sorted(SCENES))
def test_an_interrupt_at_any_effect_comes_out_and_leaves_a_row(
    scene: str, error: BaseException
) -> None:
    answers, chain, recalled = SCENES[scene]
    for number, effect in enumerate(effects_of(scene)):
        try:
            played = course(answers, chain, recalled, failing_at={number: error})
            assert played.error is error
        except AssertionError as failed:
            failed.add_note(f"interrupted at effect {number}, {type(effect).__name__}")
            raise


@pytest.mark.parametrize("scene", sorted(SCENES))
def test_a_failure_at_any_effect_ends_lawfully(scene: str) -> None:
    answers, chain, recalled = SCENES[scene]
    for number, effect in enumerate(effects_of(scene)):
        for error in DOCUMENTED.get(type(effect), []):
            try:
                course(answers, chain, recalled, failing_at={number: error})
            except AssertionError as failed:
                where = f"effect {number}, {type(effect).__name__}"
                failed.add_note(f"{type(error).__name__} at {where}")
                raise


@settings(max_examples=300, deadline=None)
@given(
    names_of_answers,
    names_of_what_the_chain_says,
    st.sampled_from(sorted(RECALLED)),
    st.integers(0, 25),
)
def test_any_course_is_lawful_wherever_it_is_interrupted(
    answers: list[str], chain: list[str], recalled: str, number: int
) -> None:
    course(answers, chain, recalled, failing_at={number: KeyboardInterrupt()})


# --- presented again


@pytest.mark.parametrize("unclear", ["500", "502", "503", "lost", "unexplained", "402 in v1"])
@pytest.mark.parametrize("pauses", PAUSES[:3], ids=str)
def test_the_same_payment_is_presented_again_after_each_pause(
    unclear: str, pauses: tuple[float, ...]
) -> None:
    played = course([unclear], pauses=pauses)

    assert len(played.paid_headers) == 1 + len(pauses)
    assert len(set(played.paid_headers)) == 1
    assert [sleep.seconds for sleep in played.driver.all_of(Sleep)] == list(pauses)
    assert len(played.driver.all_of(Sign)) == len(played.driver.all_of(Reserve)) == 1


@pytest.mark.parametrize("unclear", ["500", "lost", "unexplained", "settled and 402"])
def test_an_answer_at_a_second_try_is_handed_over(unclear: str) -> None:
    played = course([unclear, "settled"])
    assert played.receipt is not None
    assert played.receipt.state is PaymentState.SETTLED
    assert len(played.paid_headers) == 2


@pytest.mark.parametrize("final", ["insufficient funds", "invalid"])
def test_what_would_be_refused_again_is_not_presented_again(final: str) -> None:
    played = course([final])
    assert isinstance(played.error, PaymentRefused)
    assert len(played.paid_headers) == 1


def test_a_payment_that_would_expire_on_the_way_is_not_presented_again() -> None:
    played = course(["500"], pauses=(51.0, 2.0))  # a facilitator wants some 6 of the 60 seconds
    assert len(played.paid_headers) == 2
    assert isinstance(course(["500"], pauses=(53.0,)).error, PaymentUnknown)
    assert len(course(["500"], pauses=(53.0,)).paid_headers) == 1


def test_no_connection_voids_only_what_never_left() -> None:
    first = course(["no connection"])
    assert isinstance(first.error, NeverSent)
    (outcome,) = first.records
    assert (outcome.state, outcome.never_sent) == (PaymentState.VOID, True)


@pytest.mark.parametrize("before", ["500", "lost", "settled and 402"])
def test_no_connection_after_an_unclear_end_is_unclear(before: str) -> None:
    played = course([before, "no connection"])
    assert isinstance(played.error, PaymentUnknown)
    assert [outcome.state for outcome in played.records] == [PaymentState.UNKNOWN]


@pytest.mark.parametrize("before", ["unexplained", "the same 402 again", "402 problem"])
def test_no_connection_after_a_refusal_voids_nothing(before: str) -> None:
    """The server has the authorization: that it said no is its claim."""
    played = course([before, "no connection"])
    assert PaymentState.VOID not in {outcome.state for outcome in played.records}
    assert isinstance(played.error, PaymentRefused | PaymentUnknown)


def test_no_connection_for_a_new_price_is_not_the_end_of_the_old_one() -> None:
    played = course(["dearer", "no connection"])
    assert PaymentState.VOID not in {outcome.state for outcome in played.records}
    assert isinstance(played.error, PaymentRefused | PaymentUnknown)


@pytest.mark.parametrize("later", ["insufficient funds", "invalid", "unexplained"])
@pytest.mark.parametrize("before", ["lost", "500", "settled and 402"])
def test_a_refusal_after_an_unclear_end_is_unknown(before: str, later: str) -> None:
    played = course([before, later])
    assert isinstance(played.error, PaymentUnknown)
    assert played.records[-1].state is PaymentState.UNKNOWN


@pytest.mark.parametrize("later", ["beyond the limits", "on another chain only"])
def test_an_offer_not_to_be_paid_after_a_lost_answer_is_unknown_and_not_refused(
    later: str,
) -> None:
    played = course(["lost", later])
    assert isinstance(played.error, PaymentUnknown)
    assert [outcome.state for outcome in played.records] == [PaymentState.UNKNOWN]


@pytest.mark.parametrize("later", ["404", "503 problem"])
def test_a_denial_after_a_lost_answer_is_handed_over_and_not_called_refused(later: str) -> None:
    played = course(["lost", later])
    assert played.receipt is not None
    assert played.receipt.state is PaymentState.UNKNOWN


def test_a_refusal_is_raised_from_nothing_and_a_loss_from_what_was_lost() -> None:
    assert course(["insufficient funds"]).payment_error.__cause__ is None
    assert course(["lost"], pauses=()).payment_error.__cause__ is ANSWERS["lost"]


# --- priced anew


@pytest.mark.parametrize(
    ("answer", "amount", "pay_to"),
    [
        ("dearer", 20_000, RECIPIENT),
        ("cheaper", 5_000, RECIPIENT),
        ("to another", 10_000, STRANGER),
    ],
)
def test_new_terms_within_the_limits_are_signed_once_under_the_same_nonce(
    answer: str, amount: int, pay_to: str
) -> None:
    played = course([answer, "settled"])

    first, second = [each.authorization for each in played.driver.all_of(Sign)]
    assert (second.amount_atomic, second.pay_to) == (amount, pay_to)
    assert first.nonce == second.nonce
    assert len(played.driver.all_of(Reserve)) == 2
    assert played.receipt is not None
    assert played.receipt.state is PaymentState.SETTLED


def test_new_terms_are_followed_though_the_old_ones_were_asked_for_once_more() -> None:
    played = course(["the same 402 again", "dearer", "settled"])
    assert [each.authorization.amount_atomic for each in played.driver.all_of(Sign)] == [
        10_000,
        20_000,
    ]


def test_terms_that_change_again_and_again_are_followed_once() -> None:
    played = play(
        [v2(), *(priced(amount=str(amount)) for amount in (20_000, 30_000, 40_000, 50_000))],
        by=payer(pauses=(1.0, 1.0)),
    )
    signed = [each.authorization.amount_atomic for each in played.driver.all_of(Sign)]
    assert signed == [10_000, 20_000]
    assert isinstance(played.error, PaymentRefused)
    assert_lawful(played, payer(pauses=(1.0, 1.0)))


@pytest.mark.parametrize(
    ("answer", "cause"),
    [("beyond the limits", SpendLimitExceeded), ("on another chain only", NoAcceptableOffer)],
)
def test_new_terms_not_to_be_paid_are_a_refusal_that_says_why(
    answer: str, cause: type[Exception]
) -> None:
    played = course([answer])
    assert isinstance(played.error, PaymentRefused)
    assert isinstance(played.error.__cause__, cause)
    assert len(played.driver.all_of(Sign)) == 1
    assert "it asks for something else now" in str(played.error)


def test_new_terms_from_a_server_with_another_clock_are_not_followed() -> None:
    said = priced(amount="20000").with_headers(("Date", "Sun, 06 Nov 1994 08:49:37 GMT"))
    played = play([v2(), said])
    assert isinstance(played.error, PaymentRefused)
    assert len(played.driver.all_of(Sign)) == 1


@pytest.mark.parametrize(
    "said", ["settled and 402 at another price", "nonce already used, at another price"]
)
def test_new_terms_do_not_undo_that_the_old_ones_may_have_settled(said: str) -> None:
    used = v2(v2_message(v2_entry(amount="20000"), error="invalid_exact_evm_nonce_already_used"))
    first = ANSWERS.get(said, used)
    played = play([v2(), first, ANSWERS["insufficient funds"]])
    assert isinstance(played.error, PaymentUnknown)
    assert_lawful(played, payer())


def test_a_window_that_is_over_proves_nothing_of_a_longer_one_under_the_same_nonce() -> None:
    """First good for 60 seconds, then at another price for 30: at 45 the first can still settle."""
    played = play(
        [v2(), ANSWERS["dearer, for a shorter time"], Lost()], chain=[OnChainUnused(NOW + 45)]
    )
    assert isinstance(played.error, PaymentUnknown)
    assert PaymentState.VOID not in {outcome.state for outcome in played.records}
    assert played.error.valid_before == NOW + 60


@pytest.mark.parametrize(
    "thrown",
    [
        SpendLimitExceeded("nothing signed: the budget", limit="per_day"),
        LedgerError("the ledger cannot be used (disk full)"),
        IntentConflict("nothing signed: the nonce is burnt"),
        SigningFailed("nothing was sent: the device was unplugged"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_keeps_new_terms_from_being_signed_does_not_hide_the_payment_that_was_sent(
    thrown: Exception,
) -> None:
    at = Sign if isinstance(thrown, SigningFailed) else Reserve
    kinds = [type(effect) for effect in course(["dearer", "settled"]).driver.effects]
    second = [number for number, kind in enumerate(kinds) if kind is at][1]

    played = course(["dearer", "settled"], failing_at={second: thrown})

    assert isinstance(played.error, PaymentRefused | PaymentUnknown)
    assert played.error.nonce is not None
    assert played.records


def test_a_payment_that_another_process_settled_meanwhile_is_already_paid() -> None:
    receipt = stored(PaymentState.SETTLED).receipt
    paid = AlreadyPaid("nothing signed", receipt=receipt)
    second = [
        number
        for number, effect in enumerate(course(["dearer", "settled"]).driver.effects)
        if isinstance(effect, Reserve)
    ][1]
    played = play([v2(), ANSWERS["dearer"]], failing_at={second: paid})
    assert played.error is paid


# --- the chain


def test_a_settlement_that_the_chain_shows_is_verified() -> None:
    played = course(["settled"], ["settled"])
    assert played.receipt is not None
    assert played.receipt.verified
    assert played.receipt.transaction == SETTLED_IN
    assert [check.transaction for check in played.driver.all_of(CheckChain)] == [TRANSACTION]
    assert played.records == []


def test_a_settlement_that_cannot_be_checked_rests_on_the_servers_word() -> None:
    played = course(["settled"])
    assert played.receipt is not None
    assert (played.receipt.state, played.receipt.verified) == (PaymentState.SETTLED, False)
    assert played.receipt.transaction == TRANSACTION


def test_an_rpc_a_block_behind_is_asked_again() -> None:
    late = "unused so far"
    played = course(["settled"], [late, late, late, "settled"])
    assert played.receipt is not None
    assert played.receipt.verified
    assert sum(sleep.seconds for sleep in played.driver.all_of(Sleep)) < 5


def test_an_rpc_that_is_down_keeps_nobody_waiting_for_an_answer() -> None:
    played = course(["settled"], ["unread"])
    assert played.driver.all_of(Sleep) == []
    assert len(played.driver.all_of(CheckChain)) == 1


@pytest.mark.parametrize("refusal", ["insufficient funds", "unexplained", "402 page"])
def test_a_refusal_is_held_against_the_chain_too(refusal: str) -> None:
    """A server whose facilitator settled and then timed out says that it did not."""
    said = ANSWERS.get(refusal, Said(402, HTML))
    played = play([v2(), said], chain=[ON_CHAIN])
    assert isinstance(played.error, AlreadyPaid)
    assert played.error.receipt.verified


@pytest.mark.parametrize(
    ("chain", "says"),
    [
        ("unread", "could not be read"),
        ("unused so far", "unused at the chain's time"),
        ("unused for good", "unused at the chain's time"),
        ("cancelled", "cancelled in"),
    ],
)
def test_a_server_that_says_settled_against_the_chain_is_not_believed(
    chain: str, says: str
) -> None:
    played = course(["settled"], [chain])
    assert played.receipt is not None
    assert played.receipt.state is PaymentState.UNKNOWN
    assert played.receipt.reason is not None
    assert says in played.receipt.reason
    assert TRANSACTION in played.receipt.reason


@pytest.mark.parametrize("unclear", ["lost", "500", "nonce already used", "settled and 402"])
def test_what_the_chain_shows_as_settled_is_paid_and_not_delivered(unclear: str) -> None:
    played = course([unclear], ["settled"])
    assert isinstance(played.error, AlreadyPaid)
    assert played.error.receipt.verified
    assert played.error.receipt.transaction == SETTLED_IN
    assert SETTLED_IN in str(played.error)


@pytest.mark.parametrize(("chain", "burnt"), [("cancelled", True), ("unused for good", False)])
def test_what_the_chain_proves_void_is_void(chain: str, burnt: bool) -> None:
    played = course(["lost"], [chain])
    assert isinstance(played.error, PaymentRefused)
    assert "cannot any more" in str(played.error)
    (outcome,) = played.records
    assert (outcome.state, outcome.nonce_burnt) == (PaymentState.VOID, burnt)
    assert not outcome.never_sent


@pytest.mark.parametrize("chain", ["no RPC", "unread", "unused so far"])
def test_what_the_chain_does_not_prove_stays_unknown(chain: str) -> None:
    played = course(["lost"], [chain])
    assert isinstance(played.error, PaymentUnknown)
    assert "x402sms payments reconcile 0x" in str(played.error)
    assert "'invoice-7'" in str(played.error)


def test_the_last_second_of_a_window_is_within_it() -> None:
    valid_before = course(["lost"], pauses=()).authorization.valid_before
    for late, state in ((0, PaymentState.UNKNOWN), (1, PaymentState.VOID)):
        played = play([v2(), Lost()], chain=[OnChainUnused(valid_before + late)])
        assert [outcome.state for outcome in played.records] == [state]


def test_a_used_nonce_that_is_claimed_beside_another_status_is_not_called_refused() -> None:
    """Only we can have used it: what is denied is a second debit, not the first."""
    said = refused("invalid_exact_evm_nonce_already_used", status=409)
    played = play([v2(), said])
    state = played.receipt.state if played.receipt is not None else played.records[-1].state
    assert state is PaymentState.UNKNOWN


# --- resumed


@pytest.mark.parametrize("recalled", ["reserved", "unknown", "refused"])
def test_an_open_payment_is_presented_again_before_anything_else_is_asked(recalled: str) -> None:
    known = RECALLED[recalled]
    assert known is not None
    played = course(["settled"], recalled=recalled)

    assert played.driver.kinds[:4] == ["Recall", "Now", "Reserve", "Sign"]
    assert Send(None) not in played.driver.effects
    assert played.authorization == known.attempt.authorization
    assert unb64(played.paid_header[1])["accepted"] == known.attempt.template["accepted"]
    assert played.receipt is not None
    assert played.receipt.state is PaymentState.SETTLED


def test_an_intent_made_up_just_now_is_not_looked_up() -> None:
    played = play([v2(), settled()], buying=purchase(intent_given=False))
    assert "Recall" not in played.driver.kinds


@pytest.mark.parametrize("recalled", ["void", "of something else", "nothing"])
def test_what_cannot_be_resumed_begins_with_the_request_itself(recalled: str) -> None:
    played = course(["settled"], recalled=recalled)
    assert "Recall" in played.driver.kinds or recalled == "nothing"
    assert Send(None) in played.driver.effects
    assert played.authorization.valid_before == NOW + 60


@pytest.mark.parametrize("seconds", [7, 8])
def test_a_payment_is_resumed_while_a_facilitator_would_take_it(seconds: int) -> None:
    known = stored(PaymentState.UNKNOWN, valid_before=NOW + seconds)
    played = play([v2(), settled()], recalled=known)
    again = played.driver.kinds[2] == "Reserve"
    assert again == (seconds == 8)


def test_past_its_window_and_unproven_it_is_signed_anew_under_the_same_nonce() -> None:
    played = course(["settled"], ["unread", "settled"], "unknown, its window over")
    known = RECALLED["unknown, its window over"]
    assert known is not None
    assert played.authorization.nonce == known.attempt.authorization.nonce
    assert played.authorization.valid_before > NOW


def test_past_its_window_and_proven_unused_it_is_void_and_signed_anew() -> None:
    played = course(["settled"], ["unused for good", "settled"], "unknown, its window over")
    assert [outcome.state for outcome in played.records] == [PaymentState.VOID]
    assert played.receipt is not None
    assert played.receipt.verified


def test_past_its_window_and_settled_it_is_only_shown_again() -> None:
    known = RECALLED["unknown, its window over"]
    played = play([Said(200)], chain=[ON_CHAIN], recalled=known)
    assert_lawful(played, payer(), known)
    assert len(played.driver.all_of(Settle)) == 1
    assert Send(None) not in played.driver.effects
    assert played.receipt is not None
    assert played.receipt.transaction == SETTLED_IN


def test_past_its_window_and_free_now_it_is_handed_through() -> None:
    known = RECALLED["unknown, its window over"]
    played = play([Said(200)], recalled=known)
    assert (played.error, played.receipt) == (None, None)
    assert not played.driver.all_of(Sign)


def test_a_settled_payment_is_shown_again_and_its_answer_handed_over() -> None:
    known = RECALLED["settled"]
    assert known is not None
    for answer in ("settled", "200 without a settlement"):
        played = course([answer], recalled="settled")
        assert played.receipt is known.receipt
        assert played.driver.kinds == ["Recall", "Sign", "SendPaid"]


def test_a_settled_payment_is_shown_again_after_a_failure_on_the_way() -> None:
    played = course(["lost", "503", "settled"], recalled="settled", pauses=(1.0, 2.0))
    assert played.receipt is not None
    assert [sleep.seconds for sleep in played.driver.all_of(Sleep)] == [1.0, 2.0]


@pytest.mark.parametrize("answer", ["nonce already used", "404", "503", "lost", "no connection"])
def test_a_settled_payment_whose_answer_is_gone_is_already_paid(answer: str) -> None:
    played = course([answer], recalled="settled")
    assert isinstance(played.error, AlreadyPaid)
    assert played.error.receipt is not None
    assert TRANSACTION in str(played.error)
    assert played.error.amount == Decimal("0.01")


def test_a_resumed_payment_that_is_refused_is_unknown() -> None:
    played = course(["insufficient funds"], recalled="unknown")
    assert isinstance(played.error, PaymentUnknown)


# --- the id that lets a server tell a replay


def identifier(played: Played) -> Any:
    return unb64(played.paid_headers[0][1])["extensions"]["payment-identifier"]


def offering(identifier: object, **others: object) -> Said:
    return v2(v2_message(extensions={"payment-identifier": identifier, **others}))


@pytest.mark.parametrize(
    "offered",
    [
        {"info": {"required": True}, "schema": {"type": "object"}},
        {"info": {"id": "a-strangers-own-id-of-36-characters"}},
        {"info": "none"},
        {},
    ],
    ids=["with info", "with an id", "info that is no object", "empty"],
)
def test_a_payment_identifier_is_added_where_it_is_offered(offered: dict[str, Any]) -> None:
    played = play([offering(offered, other={"kept": 1}), settled()])

    sent = unb64(played.paid_header[1])["extensions"]
    assert sent["other"] == {"kept": 1}
    assert re.fullmatch(r"[A-Za-z0-9_-]{16,128}", identifier(played)["info"]["id"])
    assert identifier(played).get("schema") == offered.get("schema")
    assert "strangers" not in json.dumps(sent)


def test_the_identifier_is_the_same_for_the_same_purchase_and_only_for_it() -> None:
    offer = offering({})
    dearer = v2(v2_message(v2_entry(amount="20000"), extensions={"payment-identifier": {}}))
    ids = {
        identifier(play([said, settled()], now=NOW + late))["info"]["id"]
        for said in (offer, dearer)
        for late in (0, 5000)
    }
    assert len(ids) == 1
    other = play([offer, settled()], buying=purchase(intent="invoice-8"))
    assert identifier(other)["info"]["id"] not in ids


@pytest.mark.parametrize("offered", [None, "yes", ["id"], 1])
def test_an_identifier_that_is_offered_in_no_known_form_is_echoed(offered: object) -> None:
    played = play([offering(offered), settled()])
    assert identifier(played) == offered


@pytest.mark.parametrize("said", [v1(), example(), v2()], ids=["v1", "header", "v2"])
def test_no_identifier_is_sent_where_none_is_offered(said: Said) -> None:
    assert "payment-identifier" not in json.dumps(unb64(play([said, settled()]).paid_header[1]))


# --- what the errors tell


@pytest.mark.parametrize("answer", ["lost", "insufficient funds", "500", "unexplained"])
def test_an_error_after_the_payment_tells_what_was_promised_and_until_when(answer: str) -> None:
    played = course([answer])
    error = played.payment_error
    assert (error.intent, error.amount) == ("invoice-7", Decimal("0.01"))
    assert error.nonce == played.authorization.nonce_hex
    assert error.valid_before == played.authorization.valid_before == NOW + 60
    assert "2027-01-15 08:01:00 UTC" in str(error)
    assert "0.01" in str(error)


@pytest.mark.parametrize("failing", [Record, Settle])
def test_a_ledger_that_fails_at_the_end_costs_nobody_the_answer(failing: type[object]) -> None:
    chain = ON_CHAIN if failing is Settle else None
    broken: dict[type[object], BaseException] = {failing: LedgerError("disk full")}
    played = play([v2(), settled()], chain=[chain], failures=broken)
    assert played.receipt is not None
    assert played.receipt.state is PaymentState.SETTLED
    assert played.receipt.verified == (failing is Settle)


def test_a_receipt_says_what_the_chain_says_though_the_ledger_fails() -> None:
    """An earlier signature under the same nonce may be the one that settled."""
    chain = OnChainSettled(SETTLED_IN, STRANGER, 7_000)
    played = play([v2(), settled()], chain=[chain], failures={Settle: LedgerError("disk full")})
    assert played.receipt is not None
    assert (played.receipt.amount, played.receipt.pay_to) == (Decimal("0.007"), STRANGER)


def test_what_is_not_signed_is_written_down_once() -> None:
    def fails(_: object) -> bytes:
        raise OSError("the device was unplugged")

    played = play([v2(), settled()], signer=fails)
    assert [(each.state, each.never_sent) for each in played.records] == [(PaymentState.VOID, True)]


def test_limits_that_became_smaller_do_not_keep_a_promise_from_being_presented() -> None:
    limits = SpendLimits(per_call="0.001")
    known = RECALLED["reserved"]
    played = play([settled()], by=payer(limits=limits), recalled=known)
    assert played.receipt is not None
    assert played.receipt.state is PaymentState.SETTLED


def test_a_resumed_payment_that_cannot_be_signed_stays_as_it_was() -> None:
    error = SigningFailed("no")
    played = course(["settled"], recalled="unknown", failing_at={3: error})
    assert played.error is error
    assert played.records == []


def test_the_signer_is_asked_for_nothing_but_authorizations_of_this_purchase() -> None:
    seen: list[int] = []

    def noting(authorization: Any) -> bytes:
        seen.append(authorization.amount_atomic)
        return sign(WALLET, authorization)

    play([v2(), ANSWERS["dearer"], settled()], signer=noting)
    assert seen == [10_000, 20_000]


def test_the_time_is_asked_for_before_each_further_presentation() -> None:
    played = course(["500", "settled"])
    kinds = [type(effect) for effect in played.driver.effects]
    assert kinds.index(Sleep) > kinds.index(Now, kinds.index(Sign))
