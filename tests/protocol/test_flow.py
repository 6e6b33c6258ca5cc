"""The paid call as a state machine: what may follow what, whatever server and network do."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.lawful import assert_lawful
from tests.protocol.parts import (
    NOW,
    TRANSACTION,
    WALLET,
    Driver,
    Played,
    Said,
    b64,
    example,
    gzip,
    payer,
    play,
    purchase,
    refused,
    settled,
    together,
    unb64,
    v1,
    v1_message,
    v2,
    v2_entry,
    v2_message,
)
from x402sms.driver import drive, drive_async
from x402sms.errors import (
    AlreadyPaid,
    ChallengeError,
    ClockSkew,
    InsecureOrigin,
    LedgerError,
    NoAcceptableOffer,
    PaymentError,
    PaymentRefused,
    PaymentUnknown,
    SigningFailed,
    SpendLimitExceeded,
)
from x402sms.limits import SpendLimits
from x402sms.money import to_usdc
from x402sms.protocol.body import MAX_BYTES
from x402sms.protocol.effects import (
    Effect,
    NeverSent,
    Now,
    ReadBody,
    Record,
    Reserve,
    Send,
    Sign,
)
from x402sms.protocol.eip3009 import intent_nonce
from x402sms.protocol.flow import pay
from x402sms.protocol.networks import BASE, BASE_SEPOLIA
from x402sms.protocol.types import Dialect, PaymentState
from x402sms.wallet import sign

JSON = (("Content-Type", "application/json"),)
SOMEONE = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"


class Lost(Exception):
    """The network failed after the request had left."""


OUTAGES: dict[str, BaseException] = {
    "lost": Lost("read timed out"),
    "os error": OSError("broken pipe"),
    "stop iteration": StopIteration(5),
    "cancelled": asyncio.CancelledError(),
    "ctrl-c": KeyboardInterrupt(),
    "exit": SystemExit(1),
    "no connection": NeverSent("refused"),
}

FIRST: dict[str, Said | BaseException] = {
    "v2": v2(),
    "v1": v1(),
    "header": example(),
    "all three": together(v2(), v1(), example()),
    "v1 gzipped": v1(gzip(json.dumps(v1_message()).encode()), coding="gzip"),
    "not payable": v2(v2_message(v2_entry(scheme="upto"))),
    "too dear": v2(v2_message(v2_entry(amount="5000000"))),
    "malformed": v2("!"),
    "200": Said(200, JSON, b"{}"),
    "200 with a settlement": settled(),
    "302": Said(302, (("Location", "https://elsewhere.example/"),)),
    "402 problem": Said(402, JSON, b'{"type": "insufficient-balance"}'),
    "402 page": Said(402, (("Content-Type", "text/html"),), b"<p>"),
    "500": Said(500),
} | OUTAGES

SECOND: dict[str, Said | BaseException] = {
    "settled": settled(),
    "settled in the other header": Said(
        200, (("X-PAYMENT-RESPONSE", settled(network="base").headers[0][1]),)
    ),
    "settled and 500": settled(500),
    "settled and 402": settled(402),
    "settled by another": settled(payer=SOMEONE),
    "settled on another chain": settled(network="eip155:1"),
    "settled another amount": settled(amount="1"),
    "settlement unreadable": Said(200, (("PAYMENT-RESPONSE", "!"),)),
    "settlement twice": Said(200, settled().headers * 2),
    "settlements that differ": Said(
        200,
        (*settled().headers, ("X-PAYMENT-RESPONSE", settled(network="base").headers[0][1])),
    ),
    "200 without a settlement": Said(200, JSON, b"{}"),
    "refused": refused(),
    "refused with 200": refused(status=200),
    "402 again": v2(v2_message(error="invalid_exact_evm_nonce_already_used")),
    "402 again, dearer": v2(v2_message(v2_entry(amount="20000"))),
    "402 again in v1": v1(v1_message(error="insufficient_funds")),
    "402 again, malformed": v2("!"),
    "402 problem": Said(402, JSON, b'{"type": "insufficient-balance"}'),
    "402 page": Said(402, (("Content-Type", "text/html"),), b"<p>"),
    "400": Said(400, JSON, b"{}"),
    "302": Said(302, (("Location", "https://elsewhere.example/"),)),
    "500": Said(500),
    "503 problem": Said(503, (("Content-Type", "application/problem+json"),), b"{}"),
} | OUTAGES

PAYABLE = {"v2", "v1", "header", "all three", "v1 gzipped"}


@pytest.mark.parametrize("second", SECOND)
@pytest.mark.parametrize("first", FIRST)
def test_every_course_of_a_call_is_lawful(first: str, second: str) -> None:
    played = play([FIRST[first], SECOND[second]])

    assert_lawful(played, payer())
    kinds = played.driver.kinds
    assert kinds[0] == "Send"
    assert kinds.count("SendPaid") <= 1 + (second == "402 again, dearer")
    assert kinds.count("Sign") == kinds.count("Reserve") == kinds.count("SendPaid")
    assert ("SendPaid" in kinds) == (first in PAYABLE)
    if first not in PAYABLE:
        assert "Reserve" not in kinds
        assert "Record" not in kinds
    elif isinstance(played.error, PaymentError):
        assert_carries_the_payment(played)


def assert_carries_the_payment(played: Played) -> None:
    error = played.payment_error
    nonce = "0x" + intent_nonce(BASE, WALLET.address, "invoice-7").hex()
    assert error.intent == "invoice-7"
    signed = [sign.authorization.amount_atomic for sign in played.driver.all_of(Sign)]
    assert error.amount == to_usdc(signed[-1])
    assert error.nonce == nonce
    valid_before = [sign.authorization.valid_before for sign in played.driver.all_of(Sign)]
    assert error.valid_before == max(valid_before)


effects = st.sampled_from([Send, ReadBody, Now, Reserve, Sign, Record])
failures = st.dictionaries(
    effects,
    st.sampled_from(
        [Lost(), KeyboardInterrupt(), asyncio.CancelledError(), NeverSent(), LedgerError("disk")]
    ),
    max_size=2,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FIRST)), st.sampled_from(sorted(SECOND)), failures)
def test_it_is_lawful_whichever_effect_fails(
    first: str, second: str, thrown: dict[type[object], BaseException]
) -> None:
    played = play([FIRST[first], SECOND[second]], failures=dict(thrown))
    kinds = played.driver.kinds
    dearer = second == "402 again, dearer"

    assert kinds.count("Sign") <= 1 + dearer
    assert kinds.count("Send") + kinds.count("SendPaid") <= 2 + dearer
    if "Sign" in kinds:
        assert kinds.index("Reserve") < kinds.index("Sign")
        assert "Record" in kinds
    if "SendPaid" in kinds:
        assert Reserve not in thrown
        assert Sign not in thrown


@pytest.mark.parametrize(
    ("second", "state"),
    [
        ("settled", PaymentState.SETTLED),
        ("settled in the other header", PaymentState.SETTLED),
        ("settled and 500", PaymentState.SETTLED),
        ("settled by another", PaymentState.UNKNOWN),
        ("settled on another chain", PaymentState.UNKNOWN),
        ("settled another amount", PaymentState.UNKNOWN),
        ("settlement unreadable", PaymentState.UNKNOWN),
        ("settlement twice", PaymentState.UNKNOWN),
        ("settlements that differ", PaymentState.UNKNOWN),
        ("200 without a settlement", PaymentState.UNKNOWN),
        ("refused with 200", PaymentState.REFUSED),
        ("400", PaymentState.REFUSED),
        ("302", PaymentState.UNKNOWN),
        ("503 problem", PaymentState.REFUSED),
    ],
)
def test_an_answer_that_is_not_402_is_handed_on_with_its_receipt(
    second: str, state: PaymentState
) -> None:
    played = play([v2(), SECOND[second]])

    assert played.error is None
    assert played.receipt is not None
    assert played.receipt.state is state
    assert [outcome.state for outcome in played.records] == [state]
    assert ReadBody not in {type(effect) for effect in played.driver.effects[-2:]}
    settles = state is PaymentState.SETTLED
    assert played.receipt.transaction == (TRANSACTION if settles else None)
    assert (played.receipt.reason is None) == settles


@pytest.mark.parametrize(
    ("second", "error", "reason"),
    [
        ("refused", PaymentRefused, "insufficient_funds"),
        ("402 again", PaymentUnknown, "invalid_exact_evm_nonce_already_used"),
        ("402 again in v1", PaymentRefused, "insufficient_funds"),
        ("402 again, malformed", PaymentRefused, "unexplained"),
        ("402 problem", PaymentRefused, "unexplained"),
        ("402 page", PaymentRefused, "unexplained"),
        ("settled and 402", PaymentUnknown, "it says settled and asks for payment again"),
    ],
)
def test_a_402_after_payment_is_refused_or_unknown_and_never_paid_again(
    second: str, error: type[PaymentError], reason: str
) -> None:
    played = play([v2(), SECOND[second]])

    assert type(played.error) is error
    assert reason in str(played.error)
    if isinstance(played.error, PaymentRefused):
        assert played.error.reason == reason
        assert "can still settle until 2027-01-15 08:01:00 UTC" in str(played.error)
        assert played.records[-1].reason == reason
    assert {outcome.state for outcome in played.records} == {
        PaymentState.REFUSED if error is PaymentRefused else PaymentState.UNKNOWN
    }
    assert played.driver.kinds.count("Sign") == 1
    assert_carries_the_payment(played)


def test_a_500_without_a_word_of_the_payment_is_unknown() -> None:
    played = play([v2(), SECOND["500"]])

    assert isinstance(played.error, PaymentUnknown)
    assert "answered 500 without a settlement" in str(played.error)
    assert [outcome.state for outcome in played.records] == [PaymentState.UNKNOWN]
    assert_carries_the_payment(played)


def test_a_refusal_is_written_down_once_with_the_reason_that_its_body_gives() -> None:
    played = play([v2(), v1(v1_message(error="no"))])
    assert played.driver.kinds[-1] == "Record"
    assert [outcome.reason for outcome in played.records] == ["no"]


@pytest.mark.parametrize(
    ("error", "raised", "state"),
    [
        (Lost(), PaymentUnknown, PaymentState.UNKNOWN),
        (OSError(), PaymentUnknown, PaymentState.UNKNOWN),
        (StopIteration(), PaymentUnknown, PaymentState.UNKNOWN),
        (KeyboardInterrupt(), KeyboardInterrupt, PaymentState.UNKNOWN),
        (asyncio.CancelledError(), asyncio.CancelledError, PaymentState.UNKNOWN),
        (SystemExit(), SystemExit, PaymentState.UNKNOWN),
        (NeverSent(), NeverSent, PaymentState.VOID),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_a_paid_send_that_fails_leaves_a_row(
    error: BaseException, raised: type[BaseException], state: PaymentState
) -> None:
    played = play([v2(), error])

    assert type(played.error) is raised
    (outcome,) = played.records
    assert outcome.state is state
    if isinstance(played.error, PaymentUnknown):
        assert played.error.__cause__ is error
        assert_carries_the_payment(played)
        assert type(error).__name__ in str(played.error)
    else:
        assert played.error is error


@pytest.mark.parametrize(
    "error", [Lost(), KeyboardInterrupt(), asyncio.CancelledError(), SigningFailed("no")]
)
def test_what_was_not_signed_is_void_and_the_error_stays_its_own(error: BaseException) -> None:
    played = play([v2(), settled()], failures={Sign: error})

    assert played.error is error
    assert [outcome.state for outcome in played.records] == [PaymentState.VOID]
    assert played.driver.kinds.count("SendPaid") == 0


@pytest.mark.parametrize("error", [LedgerError("disk full"), KeyboardInterrupt()])
def test_what_is_not_reserved_is_not_signed(error: BaseException) -> None:
    played = play([v2(), settled()], failures={Reserve: error})

    assert played.error is error
    assert played.driver.kinds == ["Send", "ReadBody", "Now", "Reserve"]


@pytest.mark.parametrize("effect", [Send, ReadBody, Now])
def test_a_failure_before_anything_is_reserved_is_the_callers(effect: type[Effect]) -> None:
    error = Lost()
    played = play([v2(), settled()], failures={effect: error})
    assert played.error is error
    assert "Reserve" not in played.driver.kinds


def test_a_signature_no_header_can_be_made_of_is_void() -> None:
    played = play([v2(), settled()], signer=lambda _: None)

    assert isinstance(played.error, AttributeError)
    assert [outcome.state for outcome in played.records] == [PaymentState.VOID]


@pytest.mark.parametrize("second", ["settled", "refused", "500", "lost"])
def test_a_ledger_that_fails_after_the_payment_left_never_says_that_nothing_was_signed(
    second: str,
) -> None:
    broken = LedgerError("nothing signed: the ledger cannot be used (disk full)")
    played = play([v2(), SECOND[second]], failures={Record: broken})

    if played.error is not None:
        assert "nothing signed" not in str(played.error)
        assert_carries_the_payment(played)


@pytest.mark.parametrize("error", [Lost(), OSError("reset"), LedgerError("disk full")])
def test_a_refusal_whose_body_cannot_be_read_is_a_refusal_all_the_same(
    error: Exception,
) -> None:
    seen: list[Effect] = []
    driver = Driver([v2(), v2(v2_message(error="no"))])

    def perform(effect: Effect) -> object:
        seen.append(effect)
        if isinstance(effect, ReadBody) and sum(isinstance(each, Send) for each in seen) == 2:
            raise error
        return driver.perform(effect)

    with pytest.raises(PaymentRefused) as caught:
        drive(pay(payer(), purchase()), perform)

    assert caught.value.nonce is not None
    assert sum(isinstance(effect, Send) for effect in seen) == 2


@pytest.mark.parametrize(
    ("played", "error"),
    [
        pytest.param(lambda: play([v2("!")]), ChallengeError, id="malformed"),
        pytest.param(
            lambda: play([v2(v2_message(v2_entry(scheme="upto")))]),
            NoAcceptableOffer,
            id="not payable",
        ),
        pytest.param(
            lambda: play([v2(v2_message(v2_entry(amount="5000000")))]),
            SpendLimitExceeded,
            id="too dear",
        ),
        pytest.param(
            lambda: play([v2()], buying=purchase(private=False)), InsecureOrigin, id="http"
        ),
        pytest.param(
            lambda: play([v2()], signer=lambda each: sign(Liar(), each)),
            SigningFailed,
            id="not signed",
        ),
        pytest.param(lambda: play([v2(), refused()]), PaymentRefused, id="refused"),
        pytest.param(lambda: play([v2(), Lost()]), PaymentUnknown, id="unknown"),
    ],
)
def test_every_error_about_a_payment_knows_its_intent(
    played: Callable[[], Played], error: type[PaymentError]
) -> None:
    raised = played().payment_error
    assert type(raised) is error
    assert raised.intent == "invoice-7"


class Liar:
    address = WALLET.address

    def sign_typed_data(self, *_: object) -> bytes:
        return bytes(65)


def test_insufficient_funds_says_where_to_send_what() -> None:
    played = play([v2(), refused("insufficient_funds")])
    assert f"The wallet {WALLET.address} has less than that in USDC on Base" in str(played.error)
    assert "send USDC to it" in str(played.error)


@pytest.mark.parametrize(
    "reason",
    [
        "invalid_exact_evm_payload_authorization_valid_before",
        "invalid_exact_evm_payload_authorization_valid_after",
    ],
)
def test_a_window_that_is_refused_asks_after_the_clock(reason: str) -> None:
    assert "clock right?" in str(play([v2(), refused(reason)]).error)


def test_another_reason_is_told_as_it_is_and_fit_for_a_terminal() -> None:
    error = play([v2(), refused("bad\x1b[31m\nluck " + "x" * 900)]).error
    assert isinstance(error, PaymentRefused)
    assert str(error).isprintable()
    assert error.reason is not None
    assert len(error.reason) <= 200
    assert "clock" not in str(error)
    assert "send USDC" not in str(error)


def test_a_refusal_without_a_reason_is_unexplained() -> None:
    said = Said(402, (("PAYMENT-RESPONSE", b64({"success": False})),))
    error = play([v2(), said]).error
    assert isinstance(error, PaymentRefused)
    assert error.reason == "unexplained"


# --- what is not paid


@pytest.mark.parametrize("first", ["200", "302", "500", "402 page", "200 with a settlement"])
def test_what_asks_for_no_payment_is_handed_through_unread(first: str) -> None:
    played = play([FIRST[first]])
    assert (played.receipt, played.error) == (None, None)
    assert played.driver.kinds == ["Send"]


def test_a_402_that_is_json_but_no_challenge_is_read_and_handed_through() -> None:
    played = play([FIRST["402 problem"]])
    assert (played.receipt, played.error) == (None, None)
    assert played.driver.kinds == ["Send", "ReadBody"]


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip"])
def test_a_402_that_is_no_challenge_is_handed_through_in_a_coding_we_do_not_read(
    coding: str,
) -> None:
    # httpx asks for `br` and `zstd` where it can decode them; the account's balance is no payment.
    pairs = (("Content-Type", "application/problem+json"), ("Content-Encoding", coding))
    played = play([Said(402, pairs, b"\x0b\x02\x80...")])
    assert (played.receipt, played.error) == (None, None)


@pytest.mark.parametrize(
    ("body", "coding"), [(b"{", "gzip"), (b"{", "br"), (b" " * (MAX_BYTES + 1), "identity")]
)
def test_a_challenge_in_a_header_stands_beside_a_body_that_cannot_be_read(
    body: bytes, coding: str
) -> None:
    said = v2(body=body).with_headers(*JSON, ("Content-Encoding", coding))
    assert play([said, settled()]).error is None


@pytest.mark.parametrize("said", [v2(), v1(), example()], ids=["v2", "v1", "header"])
def test_plain_http_to_another_machine_is_not_paid(said: Said) -> None:
    url = "http://seller.example/sms"
    played = play([said], buying=purchase(private=False, url=url))
    assert isinstance(played.error, InsecureOrigin)
    assert url in str(played.error)
    assert "Reserve" not in played.driver.kinds


def test_plain_http_that_asks_for_nothing_is_none_of_our_business() -> None:
    assert play([Said(200)], buying=purchase(private=False)).error is None


def test_the_ceiling_of_one_request_is_kept() -> None:
    played = play([v2()], buying=purchase(max_amount_atomic=9_999))
    assert isinstance(played.error, SpendLimitExceeded)
    assert played.error.limit == "max_amount"
    assert play([v2(), settled()], buying=purchase(max_amount_atomic=10_000)).error is None


@pytest.mark.parametrize(
    ("now", "message"),
    [(784_111_777 + 121, "2 min 1 s ahead of"), (784_111_777 - 3725, "62 min 5 s behind")],
)
def test_a_clock_that_is_off_signs_nothing(now: int, message: str) -> None:
    said = v2().with_headers(("Date", "Sun, 06 Nov 1994 08:49:37 GMT"))
    played = play([said, settled()], now=now)
    assert isinstance(played.error, ClockSkew)
    assert message in str(played.error)
    assert played.error.seconds == now - 784_111_777
    assert "Reserve" not in played.driver.kinds


@pytest.mark.parametrize(
    ("now", "skew", "date"),
    [
        (784_111_777 + 120, 120, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (784_111_777 - 120, 120, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (784_111_777 + 10**8, None, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (NOW, 0, "tomorrow"),
    ],
)
def test_a_clock_that_is_right_enough_pays(now: int, skew: int | None, date: str) -> None:
    said = v2().with_headers(("Date", date))
    assert play([said, settled()], now=now, by=payer(max_clock_skew=skew)).error is None


# --- what is stored is what is signed is what is sent


@pytest.mark.parametrize("dialect", ["v2", "v1", "header"])
def test_what_is_reserved_is_what_is_signed_and_sent(dialect: str) -> None:
    first = FIRST[dialect]
    assert isinstance(first, Said)
    played = play([first, settled()])
    (reserve,) = played.driver.all_of(Reserve)
    attempt = reserve.attempt

    assert attempt.dialect is Dialect(dialect)
    assert attempt.authorization is played.authorization
    assert (attempt.intent, attempt.method) == ("invoice-7", "POST")
    assert (attempt.url, attempt.fingerprint) == ("https://seller.example/sms", "f" * 64)
    offered = first.headers[0][1] if dialect == "header" else None
    if offered is not None:
        assert json.loads(offered)["chain"] == attempt.template["network"]
    elif dialect == "v2":
        assert attempt.template["accepted"]["payTo"] == played.authorization.pay_to
    _, value = played.paid_header
    assert value.isascii()
    sent = unb64(value)
    assert sent.pop("payload")["authorization"]["to"] == played.authorization.pay_to
    assert sent == attempt.template


def test_the_same_intent_has_the_same_nonce_whatever_price_recipient_and_time() -> None:
    entries = [v2_entry(), v2_entry(amount="20000"), v2_entry(payTo=SOMEONE)]
    nonces = {
        play([v2(v2_message(entry)), settled()], now=NOW + late).authorization.nonce
        for entry, late in itertools.product(entries, (0, 5000))
    }
    assert len(nonces) == 1
    other = play([v2(), settled()], buying=purchase(intent="invoice-8"))
    assert other.authorization.nonce not in nonces


def test_the_window_outlives_the_request_within_the_limit() -> None:
    long_poll = play([v2(), settled()], buying=purchase(takes_seconds=210))
    assert long_poll.authorization.valid_before == NOW + 210
    limits = SpendLimits(authorization_ttl=100)
    capped = play([v2(), settled()], buying=purchase(takes_seconds=210), by=payer(limits=limits))
    assert capped.authorization.valid_before == NOW + 100


def test_the_wallets_own_network_is_the_one_that_is_paid_on() -> None:
    entry = v2_entry(network="eip155:84532", asset=BASE_SEPOLIA.usdc)
    said = v2(v2_message(v2_entry(amount="1"), entry))
    answer = settled(network="eip155:84532")
    played = play([said, answer], by=payer(network=BASE_SEPOLIA))
    assert played.authorization.network is BASE_SEPOLIA
    assert played.receipt is not None
    assert played.receipt.state is PaymentState.SETTLED


def test_an_error_of_the_ledger_about_the_intent_comes_out_as_it_is() -> None:
    receipt = play([v2(), settled()]).receipt
    assert receipt is not None
    paid = AlreadyPaid("nothing signed", receipt=receipt)
    played = play([v2(), settled()], failures={Reserve: paid})
    assert played.error is paid
    assert (paid.intent, paid.nonce) == ("invoice-7", receipt.nonce)


# --- closing, and the driver


def advance_to(kind: type[Effect], driver: Driver) -> tuple[object, Callable[[], None]]:
    flow = pay(payer(), purchase())
    effect: Effect = next(flow)
    while not (isinstance(effect, kind) and not (kind is Send and effect == Send(None))):
        effect = flow.send(driver.perform(effect))
    return effect, flow.close


@pytest.mark.parametrize("kind", [Sign, Send])
def test_a_flow_that_is_closed_yields_nothing_more(kind: type[Effect]) -> None:
    _, close = advance_to(kind, Driver([v2(), settled()]))
    close()  # a generator that yields here would raise RuntimeError


def test_drive_throws_each_failure_in_and_returns_the_result() -> None:
    thrown: list[BaseException] = []

    def perform(effect: Effect) -> object:
        error = KeyboardInterrupt()
        thrown.append(error)
        raise error

    with pytest.raises(KeyboardInterrupt) as caught:
        drive(pay(payer(), purchase()), perform)
    assert caught.value is thrown[0]


@pytest.mark.parametrize("second", ["settled", "refused", "lost", "cancelled", "402 again in v1"])
def test_the_async_driver_takes_the_same_course(second: str) -> None:
    first = play([v2(), SECOND[second]])
    driver = Driver([v2(), SECOND[second]])

    async def perform(effect: Effect) -> object:
        return driver.perform(effect)

    async def run() -> object:
        try:
            return await drive_async(pay(payer(), purchase()), perform)
        except BaseException as error:  # noqa: BLE001  what is thrown is what is looked at
            return error

    loop = asyncio.new_event_loop()
    try:
        result = loop.run_until_complete(run())
    finally:
        loop.close()

    assert driver.kinds == first.driver.kinds
    assert type(result) is type(first.receipt if first.error is None else first.error)
