from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from x402.http.utils import (
    decode_payment_signature_header,
    encode_payment_required_header,
    encode_payment_response_header,
)
from x402.schemas import PaymentPayload, ResourceInfo, SettleResponse
from x402.schemas import PaymentRequired as OfficialRequired
from x402.schemas import PaymentRequirements as OfficialRequirements
from x402.schemas.v1 import PaymentPayloadV1

from tests.protocol.parts import (
    NOW,
    RECIPIENT,
    STRANGER,
    TRANSACTION,
    WALLET,
    Said,
    b64,
    example,
    example_message,
    payer,
    purchase,
    together,
    unb64,
    v1,
    v1_entry,
    v1_message,
    v2,
    v2_entry,
    v2_message,
)
from x402sms.errors import ChallengeError, NoAcceptableOffer
from x402sms.protocol.attempt import make_attempt
from x402sms.protocol.body import decode
from x402sms.protocol.effects import Answer
from x402sms.protocol.eip3009 import Authorization, intent_nonce
from x402sms.protocol.networks import BASE, BASE_SEPOLIA, Network
from x402sms.protocol.selection import select
from x402sms.protocol.types import Dialect, Offer, PaymentRequired, SettlementResponse
from x402sms.protocol.wire import Headers, encode_payment, parse_challenge, parse_settlement

SIGNATURE = bytes(range(65))
AUTHORIZATION = Authorization(
    network=BASE,
    payer=WALLET.address,
    pay_to=RECIPIENT,
    amount_atomic=10_000,
    valid_after=NOW - 600,
    valid_before=NOW + 60,
    nonce=intent_nonce(BASE, WALLET.address, "invoice-7"),
)
PAYLOAD = {
    "signature": "0x" + SIGNATURE.hex(),
    "authorization": {
        "from": WALLET.address,
        "to": RECIPIENT,
        "value": "10000",
        "validAfter": str(NOW - 600),
        "validBefore": str(NOW + 60),
        "nonce": "0x" + AUTHORIZATION.nonce.hex(),
    },
}


def challenge_in(said: Said) -> PaymentRequired:
    challenge = parse_challenge(Headers(said.headers), said.body)
    assert challenge is not None
    return challenge


def offer_in(said: Said, network: Network = BASE) -> Offer:
    return select(challenge_in(said), network)


def payment_for(said: Said) -> tuple[str, str]:
    """The payment header for that challenge, as the flow makes it at `NOW`."""
    answer = Answer(said.status, Headers(said.headers))
    attempt = make_attempt(payer(), purchase(), challenge_in(said), answer, NOW)
    return encode_payment(replace(attempt, authorization=AUTHORIZATION), SIGNATURE)


def answer_to(said: Said) -> tuple[str, Any]:
    name, value = payment_for(said)
    return name, unb64(value)


# --- what we send


def test_a_v2_challenge_is_answered_with_the_chosen_entry_verbatim() -> None:
    entry = v2_entry(
        amount="10000",
        payTo=RECIPIENT.lower(),
        unknown={"deep": [1, 2.5, None, "\u00fc", "\U0001f600", "\ud800"], "": -0.0},
        ordered={"b": 1, "a": 2},
    )
    resource = {"url": "https://seller.example/sms", "unknown": True}
    extensions: dict[str, Any] = {"other": {"info": {}, "schema": {}}}
    message = v2_message(entry, resource=resource, extensions=extensions)

    name, sent = answer_to(v2(message))

    assert name == "PAYMENT-SIGNATURE"
    assert sent == {
        "x402Version": 2,
        "resource": resource,
        "accepted": entry,
        "payload": PAYLOAD,
        "extensions": extensions,
    }
    assert json.dumps(sent["accepted"]) == json.dumps(entry)  # the order of the keys too


def test_a_v2_answer_has_no_resource_or_extensions_where_the_challenge_has_none() -> None:
    for message in (
        {"x402Version": 2, "accepts": [v2_entry()]},
        v2_message(resource=None, extensions=None),
    ):
        assert answer_to(v2(message))[1].keys() == {"x402Version", "accepted", "payload"}


def test_the_entry_that_is_echoed_is_the_one_that_is_paid() -> None:
    entries = [v2_entry(amount=amount, extra={"n": amount}) for amount in ("30000", "10000")]

    _, sent = answer_to(v2(v2_message(*entries)))

    assert sent["accepted"] == entries[1]


def test_a_v1_challenge_is_answered_in_v1() -> None:
    name, sent = answer_to(v1())
    assert name == "X-PAYMENT"
    assert sent == {"x402Version": 1, "scheme": "exact", "network": "base", "payload": PAYLOAD}


def test_the_header_example_is_answered_as_v1_with_the_network_of_its_chain() -> None:
    name, sent = answer_to(example())
    assert name == "X-PAYMENT"
    assert sent == {"x402Version": 1, "scheme": "exact", "network": "base", "payload": PAYLOAD}


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=8),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**70), 2**70)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=4,
    )
)
def test_whatever_else_an_entry_holds_comes_back_unchanged(others: dict[str, Any]) -> None:
    entry = others | v2_entry()
    assert answer_to(v2(v2_message(entry)))[1]["accepted"] == entry


@settings(deadline=None)
@given(st.text(alphabet=st.characters(), max_size=50))
def test_a_payment_header_is_always_plain_ascii_on_one_line(text: str) -> None:
    said = v2(v2_message(v2_entry(text=text), resource={"url": text}))
    _, value = payment_for(said)
    assert value.isascii()
    assert value.isprintable()


# --- the official package reads it, and we read the official package


def test_the_official_package_reads_our_v2_answer() -> None:
    official = OfficialRequired(
        accepts=[
            OfficialRequirements(
                scheme="exact",
                network="eip155:8453",
                asset=BASE.usdc,
                amount="10000",
                pay_to=RECIPIENT,
                max_timeout_seconds=60,
                extra={"name": "USD Coin", "version": "2"},
            )
        ],
        resource=ResourceInfo(url="https://seller.example/sms", mime_type="application/json"),
        error="payment required",
    )
    said = Said(402, (("payment-required", encode_payment_required_header(official)),))
    assert challenge_in(said).error == "payment required"

    name, value = payment_for(said)

    read = decode_payment_signature_header(value)
    assert name == "PAYMENT-SIGNATURE"
    assert isinstance(read, PaymentPayload)
    assert read.accepted == official.accepts[0]
    assert read.resource == official.resource
    assert read.payload == PAYLOAD


@pytest.mark.parametrize("said", [v1(), example()], ids=["v1", "header"])
def test_the_official_package_reads_our_v1_answer(said: Said) -> None:
    _, value = payment_for(said)

    read = decode_payment_signature_header(value)

    assert isinstance(read, PaymentPayloadV1)
    assert (read.scheme, read.network, read.payload) == ("exact", "base", PAYLOAD)


@pytest.mark.parametrize("success", [True, False])
def test_we_read_the_settlement_of_the_official_package(success: bool) -> None:
    official = SettleResponse(
        success=success,
        error_reason=None if success else "insufficient_funds",
        payer=WALLET.address,
        transaction=TRANSACTION if success else "",
        network="eip155:8453",
    )
    settlement = parse_settlement(
        Headers([("PAYMENT-RESPONSE", encode_payment_response_header(official))])
    )
    assert settlement == SettlementResponse(
        success=success,
        transaction=TRANSACTION if success else "",
        network="eip155:8453",
        payer=WALLET.address,
        error_reason=None if success else "insufficient_funds",
    )


# --- what we read


def test_a_v2_challenge_is_read() -> None:
    challenge = challenge_in(v2())
    (entry,) = challenge.accepts
    assert challenge.dialect is Dialect.V2
    assert challenge.error == "payment required"
    assert challenge.resource == {"url": "https://seller.example/sms"}
    assert challenge.extensions is None
    assert (entry.scheme, entry.network, entry.amount_atomic) == ("exact", "eip155:8453", 10_000)
    assert (entry.asset, entry.pay_to) == (BASE.usdc, RECIPIENT)
    assert (entry.max_timeout_seconds, entry.transfer_method) == (60, None)
    assert entry.raw == v2_entry()


def test_the_header_example_is_read() -> None:
    challenge = challenge_in(example())
    (entry,) = challenge.accepts
    assert challenge.dialect is Dialect.HEADER
    assert (entry.scheme, entry.network, entry.asset) == ("exact", "base", "USDC")
    assert (entry.amount_atomic, entry.pay_to) == (10_000, RECIPIENT)
    assert entry.max_timeout_seconds is None


@pytest.mark.parametrize(
    ("said", "winner"),
    [
        pytest.param(together(example(), v1(), v2()), Dialect.V2, id="v2 over all"),
        pytest.param(together(example(), v2()), Dialect.V2, id="v2 over the header"),
        pytest.param(together(v1(), v2()), Dialect.V2, id="v2 over v1"),
        pytest.param(together(example(), v1()), Dialect.V1, id="v1 over the header"),
        pytest.param(example(), Dialect.HEADER, id="the header alone"),
    ],
)
def test_one_dialect_wins(said: Said, winner: Dialect) -> None:
    assert challenge_in(said).dialect is winner


@pytest.mark.parametrize(
    ("pairs", "body"),
    [
        pytest.param(
            [("Content-Type", "application/problem+json")],
            b'{"type": "https://seller.example/problems/insufficient-balance", "status": 402,'
            b' "title": "Insufficient balance", "detail": "top up"}',
            id="problem JSON",
        ),
        pytest.param([("Content-Type", "application/json")], b'{"error": "pay"}', id="other JSON"),
        pytest.param([("Content-Type", "application/json")], b"", id="an empty body"),
        pytest.param([("Content-Type", "text/html")], b"<p>pay up</p>", id="a page"),
        pytest.param([], b"\x00\xff", id="bytes"),
        pytest.param([], b"pay x402Version", id="text"),
    ],
)
def test_a_402_without_a_challenge_is_none(pairs: list[tuple[str, str]], body: bytes) -> None:
    assert parse_challenge(Headers(pairs), body) is None


def test_names_of_headers_are_read_in_any_case() -> None:
    for name in ("payment-required", "PAYMENT-REQUIRED", "Payment-Required"):
        assert challenge_in(Said(402, ((name, b64(v2_message())),))).dialect is Dialect.V2


def test_a_damaged_second_dialect_is_not_passed_over() -> None:
    with pytest.raises(ChallengeError):
        challenge_in(together(v2(), Said(402, (("X-Payment-Required", "{"),))))


anything = st.one_of(
    st.text(max_size=80),
    st.binary(max_size=80).map(b64),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["x402Version", "accepts", "amount", "network", "payTo", "extra"]),
                inner,
            )
        ),
        max_leaves=12,
    ).map(json.dumps),
)
names = st.sampled_from(
    ["payment-required", "x-payment-required", "content-type", "content-encoding", "date", "x"]
)


def failure_of(read: Callable[[], object], expected: type[Exception]) -> Exception | None:
    try:
        read()
    except expected as error:
        return error
    return None


def read_all_of(pairs: list[tuple[str, str]], body: bytes) -> None:
    headers = Headers(pairs)
    headers.date()
    found: list[PaymentRequired | None] = []
    error = failure_of(lambda: found.append(parse_challenge(headers, body)), ChallengeError)
    if isinstance(error, ChallengeError):
        assert error.field
        assert str(error).isprintable()
    for challenge in filter(None, found):
        failure_of(partial(select, challenge, BASE), NoAcceptableOffer)  # or it is payable


@settings(max_examples=400, deadline=None)
@given(
    pairs=st.lists(st.tuples(names, anything | anything.map(b64)), max_size=4),
    body=st.binary(max_size=100) | anything.map(lambda text: text.encode("utf-8", "replace")),
)
def test_random_bytes_are_a_challenge_error_or_nothing(
    pairs: list[tuple[str, str]], body: bytes
) -> None:
    read_all_of(pairs, body)
    read_all_of(pairs, b'{"x402Version": 1, "accepts": [' + body + b"]}")


entries = st.fixed_dictionaries(
    {},
    optional={
        key: st.sampled_from([value, "", "0", 0, -1, None, [], {}, True, "\ud800", RECIPIENT])
        for key, value in (v2_entry() | v1_entry()).items()
    },
)


@settings(max_examples=400, deadline=None)
@given(st.lists(entries, max_size=3), st.sampled_from([1, 2, "2", None]))
def test_almost_right_challenges_are_a_challenge_error_or_read(
    found: list[dict[str, object]], version: object
) -> None:
    message = {"x402Version": version, "accepts": found}
    read_all_of([("payment-required", b64(message))], b"")
    read_all_of([], json.dumps(message).encode())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "br", "", "identity", "\0"]))
def test_a_body_of_any_coding_is_decoded_or_a_value_error(raw: bytes, coding: str) -> None:
    error = failure_of(lambda: decode(raw, coding), ValueError)
    assert error is None or str(error).isprintable()


# --- which offer is chosen


def entry(amount: str, **changes: object) -> dict[str, Any]:
    return v2_entry(amount=amount, **changes)


@pytest.mark.parametrize(
    ("entries", "chosen"),
    [
        pytest.param([entry("3"), entry("1"), entry("2")], 1, id="the cheapest"),
        pytest.param([entry("2", n=0), entry("2", n=1)], 0, id="the first of equals"),
        pytest.param([entry("10"), entry("9")], 1, id="by number, not by text"),
        pytest.param([entry("1", asset=STRANGER), entry("5")], 1, id="not another token"),
        pytest.param([entry("1", network="eip155:1"), entry("5")], 1, id="not another chain"),
        pytest.param([entry("1", scheme="upto"), entry("5")], 1, id="not another scheme"),
        pytest.param(
            [entry("1", network="solana:mainnet", asset="EPjF", payTo="9xQe"), entry("5")],
            1,
            id="other chains write addresses otherwise",
        ),
    ],
)
def test_the_cheapest_payable_offer_is_chosen(entries: list[dict[str, Any]], chosen: int) -> None:
    offer = offer_in(v2(v2_message(*entries)))
    assert offer.requirements.raw == entries[chosen]
    assert offer.amount_atomic == int(entries[chosen]["amount"])


def test_the_wallets_network_chooses_among_networks() -> None:
    sepolia = v2_entry(network="eip155:84532", asset=BASE_SEPOLIA.usdc)
    said = v2(v2_message(v2_entry(), sepolia))
    assert offer_in(said, BASE).requirements.raw == v2_entry()
    assert offer_in(said, BASE_SEPOLIA).requirements.raw == sepolia
    assert offer_in(v1(v1_message(v1_entry()))).network is BASE
    said = example(example_message(chain="base-sepolia"))
    assert offer_in(said, BASE_SEPOLIA).network is BASE_SEPOLIA


def test_an_unpayable_challenge_says_what_was_offered_and_why_not() -> None:
    said = v2(
        v2_message(
            v2_entry(scheme="upto"),
            v2_entry(network="eip155:1", asset=STRANGER, amount="7"),
            v2_entry(extra={"assetTransferMethod": "permit2"}),
        )
    )
    with pytest.raises(NoAcceptableOffer, match="USDC on Base by EIP-3009") as caught:
        offer_in(said)
    assert caught.value.offered == (
        "upto, 0.01 USDC on eip155:8453 (not the scheme exact)",
        f"exact, 7 units of {STRANGER} on eip155:1 (not a network x402sms pays on)",
        "exact, permit2, 0.01 USDC on eip155:8453 (not by EIP-3009)",
    )


# --- the settlement header


def settlement(value: object, name: str = "PAYMENT-RESPONSE") -> Headers:
    return Headers([(name, value if isinstance(value, str) else b64(value))])


SUCCESS = {
    "success": True,
    "transaction": TRANSACTION,
    "network": "eip155:8453",
    "payer": WALLET.address,
}


@pytest.mark.parametrize("name", ["PAYMENT-RESPONSE", "X-PAYMENT-RESPONSE"])
def test_a_settlement_is_read_from_either_header(name: str) -> None:
    assert parse_settlement(settlement(SUCCESS | {"amount": "10000"}, name)) == SettlementResponse(
        success=True,
        transaction=TRANSACTION,
        network="eip155:8453",
        payer=WALLET.address,
        amount_atomic=10_000,
    )


@pytest.mark.parametrize(
    "claim",
    [
        {"success": False},
        {"success": False, "transaction": "", "network": ""},
        {"success": False, "transaction": None, "network": None, "payer": None, "amount": None},
    ],
)
def test_a_failure_needs_to_say_nothing_but_that(claim: object) -> None:
    assert parse_settlement(settlement(claim)) == SettlementResponse(False, "", "")


def test_no_settlement_header_is_none() -> None:
    assert parse_settlement(Headers([("content-type", "text/plain")])) is None


@pytest.mark.parametrize(
    ("claim", "field"),
    [
        pytest.param("", "header payment-response", id="empty"),
        pytest.param("!", "header payment-response", id="not base64"),
        pytest.param(b64("{"), "header payment-response", id="not JSON"),
        pytest.param(b64("[]"), "payment-response", id="a list"),
        pytest.param({}, "payment-response.success", id="no success"),
        pytest.param({"success": "true"}, "payment-response.success", id="success as text"),
        pytest.param({"success": 1}, "payment-response.success", id="success as 1"),
        pytest.param({"success": None}, "payment-response.success", id="success as null"),
        pytest.param(
            {"success": True, "network": "base"}, "payment-response.transaction", id="no hash"
        ),
        pytest.param(
            {"success": True, "transaction": TRANSACTION}, "payment-response.network", id="nowhere"
        ),
        pytest.param(SUCCESS | {"network": 8453}, "payment-response.network", id="chain id"),
        pytest.param(SUCCESS | {"payer": 5}, "payment-response.payer", id="payer a number"),
        pytest.param(SUCCESS | {"amount": 10_000}, "payment-response.amount", id="amount an int"),
        pytest.param(SUCCESS | {"amount": "-1"}, "payment-response.amount", id="amount negative"),
        pytest.param(
            {"success": False, "errorReason": ["no"]}, "payment-response.errorReason", id="reason"
        ),
    ],
)
def test_a_malformed_settlement_is_an_error_that_names_the_field(claim: object, field: str) -> None:
    with pytest.raises(ChallengeError) as caught:
        parse_settlement(settlement(claim))
    assert caught.value.field == field


@pytest.mark.parametrize(
    "transaction",
    [
        "",
        "0x",
        TRANSACTION[2:],
        TRANSACTION[:-1],
        TRANSACTION + "0",
        TRANSACTION + "\n",
        "0x" + 64 * "g",
        None,
        5,
    ],
)
def test_a_hash_that_is_none_is_no_settlement(transaction: object) -> None:
    with pytest.raises(ChallengeError) as caught:
        parse_settlement(settlement(SUCCESS | {"transaction": transaction}))
    assert caught.value.field == "payment-response.transaction"


def test_a_settlement_sent_twice_is_malformed() -> None:
    value = b64(SUCCESS)
    with pytest.raises(ChallengeError, match="more than once"):
        parse_settlement(Headers([("payment-response", value), ("Payment-Response", value)]))


@settings(max_examples=300, deadline=None)
@given(anything | anything.map(b64))
def test_random_settlements_are_a_challenge_error_or_read(value: str) -> None:
    error = failure_of(lambda: parse_settlement(settlement(value)), ChallengeError)
    assert error is None or "payment-response" in str(error)


# --- the server's clock


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784_111_777),
        ("Sun Nov  6 08:49:37 1994", 784_111_777),
        ("Sun, 06 Nov 1994 08:49:37 -0000", 784_111_777),
        ("Sun, 06 Nov 1994 08:49:37", 784_111_777),
        ("Sun, 06 Nov 1994 09:49:37 +0100", 784_111_777),
        ("", None),
        ("yesterday", None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        pytest.param("1 Jan " + "9" * 5000 + " 00:00:00 GMT", None, id="a year of 5000 digits"),
        (None, None),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Tokyo"])
def test_the_date_of_an_answer_is_read_the_same_in_every_time_zone(
    date: str | None, seconds: int | None, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # RFC 9110 section 5.6.7: recipients must take all three formats, and all three are in GMT.
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        pairs = [] if date is None else [("Date", date)]
        assert Headers(pairs).date() == seconds
    finally:
        monkeypatch.undo()
        time.tzset()
