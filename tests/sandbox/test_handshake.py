"""Asking, paying, being refused: in every dialect, over real HTTP."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from eth_account import Account

from tests.sandbox.conftest import MakeBuyer
from tests.sandbox.paying import (
    CAIP2,
    DOMAINS,
    Buyer,
    Json,
    challenge_of,
    encode,
    settlement_of,
)
from x402sms.sandbox import RunningSandbox

ORDER = {"service": "telegram", "country": "US"}
STRANGER = "0x" + "77" * 32


def test_an_unpaid_request_is_asked_for_exactly_the_published_terms(
    sandbox: RunningSandbox, buyer: Buyer
) -> None:
    challenge = buyer.ask("GET", "/services")
    name, _, usdc = DOMAINS["base-sepolia"]
    url = f"{sandbox.url}/services"
    extra = {"name": name, "version": "2"}
    terms = {"asset": usdc, "payTo": sandbox.pay_to, "maxTimeoutSeconds": 60, "extra": extra}
    description = "One VirtualSMS API call"
    about = {"description": description, "mimeType": "application/json"}
    expected: dict[str, Json] = {
        "v2": {
            "x402Version": 2,
            "error": "PAYMENT-SIGNATURE header is required",
            "resource": {"url": url, **about},
            "accepts": [{"scheme": "exact", "network": "eip155:84532", "amount": "1000", **terms}],
        },
        "v1": {
            "x402Version": 1,
            "error": "X-PAYMENT header is required",
            "accepts": [
                {
                    "scheme": "exact",
                    "network": "base-sepolia",
                    "maxAmountRequired": "1000",
                    "resource": url,
                    **about,
                    **terms,
                }
            ],
        },
        "header": {
            "amount": "0.001",
            "asset": "USDC",
            "chain": "base-sepolia",
            "recipient": sandbox.pay_to,
        },
    }
    assert challenge == expected[buyer.dialect]


def test_a_paid_request_is_answered_with_a_settlement_and_costs_exactly_what_was_asked(
    sandbox: RunningSandbox, buyer: Buyer
) -> None:
    before = sandbox.balance(buyer.address)
    response = buyer.pay("GET", "/countries")
    assert response.status_code == 200
    report = settlement_of(response, buyer.dialect)
    assert report["success"] is True
    assert report["payer"] == buyer.address
    network = CAIP2["base-sepolia"] if buyer.dialect == "v2" else "base-sepolia"
    assert report["network"] == network
    assert sandbox.balance(buyer.address) == before - 1000
    (record,) = [paid for paid in sandbox.payments() if paid["payer"] == buyer.address]
    assert record["transaction"] == report["transaction"]
    assert (record["amount_atomic"], record["method"]) == ("1000", "GET")
    assert (record["path"], record["order_id"]) == ("/api/v2/countries", None)


def test_every_answer_has_a_date_and_a_request_id_of_its_own(buyer: Buyer) -> None:
    answers = [buyer.http.get("/services"), buyer.http.get("/nowhere"), buyer.pay("GET", "/me")]
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 3
    assert all("Date" in answer.headers for answer in answers)


def test_the_poll_asks_for_a_payment_that_outlives_it(buyer: Buyer) -> None:
    challenge = buyer.ask("GET", "/orders/ord_x/sms?timeout=180")
    if buyer.dialect != "header":
        assert challenge["accepts"][0]["maxTimeoutSeconds"] == 300


def _in(seconds: int) -> str:
    return str(int(time.time()) + seconds)


AUTHORIZATION_FAULTS: list[tuple[str, Any]] = [
    ("invalid_exact_evm_payload_signature", lambda: {"signer": STRANGER}),
    ("invalid_exact_evm_payload_authorization_value_mismatch", lambda: {"value": "999"}),
    ("invalid_exact_evm_payload_authorization_value_mismatch", lambda: {"value": "1001"}),
    ("invalid_exact_evm_payload_recipient_mismatch", lambda: {"to": "0x" + "12" * 20}),
    (
        "invalid_exact_evm_payload_authorization_valid_before",
        lambda: {"validBefore": _in(4)},
    ),
    ("invalid_exact_evm_payload_authorization_valid_after", lambda: {"validAfter": _in(60)}),
]


@pytest.mark.parametrize(("code", "changes"), AUTHORIZATION_FAULTS)
def test_an_authorization_other_than_the_one_asked_for_is_refused(
    sandbox: RunningSandbox, buyer: Buyer, code: str, changes: Any
) -> None:
    challenge = buyer.ask("GET", "/services")
    document = buyer.wallet.document(challenge, **changes())
    _assert_refused(sandbox, buyer, encode(document), code, payer=buyer.address)


def test_a_signature_for_the_other_network_is_refused(
    sandbox: RunningSandbox, buyer: Buyer
) -> None:
    challenge = buyer.ask("GET", "/services")
    buyer.wallet.network = "base"
    payload = buyer.wallet.payload(challenge)
    buyer.wallet.network = "base-sepolia"
    document = buyer.wallet.document(challenge, payload=payload)
    code = "invalid_exact_evm_payload_signature"
    _assert_refused(sandbox, buyer, encode(document), code, payer=buyer.address)


def test_a_signature_in_the_upper_half_is_refused_as_the_token_would(
    sandbox: RunningSandbox, buyer: Buyer
) -> None:
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    payload = buyer.wallet.payload(buyer.ask("GET", "/services"))
    raw = bytes.fromhex(payload["signature"][2:])
    flipped = (order - int.from_bytes(raw[32:64], "big")).to_bytes(32, "big")
    payload["signature"] = "0x" + (raw[:32] + flipped + bytes([55 - raw[64]])).hex()
    document = buyer.wallet.document(buyer.ask("GET", "/services"), payload=payload)
    code = "invalid_exact_evm_payload_signature"
    _assert_refused(sandbox, buyer, encode(document), code, payer=buyer.address)


def test_a_wallet_without_the_money_is_refused(
    sandbox: RunningSandbox, make_buyer: MakeBuyer
) -> None:
    poor = make_buyer(sandbox, funds="0.000999")
    document = poor.wallet.document(poor.ask("GET", "/services"))
    _assert_refused(sandbox, poor, encode(document), "insufficient_funds", payer=poor.address)


TERM_FAULTS: list[tuple[str, Json]] = [
    ("invalid_network", {"network": "eip155:1"}),
    ("unsupported_scheme", {"scheme": "upto"}),
]


@pytest.mark.parametrize(("code", "changes"), TERM_FAULTS)
def test_another_network_or_scheme_is_refused(
    sandbox: RunningSandbox, buyer: Buyer, code: str, changes: Json
) -> None:
    document = buyer.wallet.document(buyer.ask("GET", "/services"))
    (document["accepted"] if buyer.dialect == "v2" else document).update(changes)
    _assert_refused(sandbox, buyer, encode(document), code, payer=buyer.address)


@pytest.mark.parametrize("change", [{"maxTimeoutSeconds": 60.0}, {"more": 1}, {"amount": "1"}])
def test_an_accepted_offer_that_is_not_verbatim_is_refused(
    own_sandbox: RunningSandbox, own_buyer: Buyer, change: Json
) -> None:
    document = own_buyer.wallet.document(own_buyer.ask("GET", "/services"))
    document["accepted"].update(change)
    code = "invalid_payment_requirements"
    _assert_refused(own_sandbox, own_buyer, encode(document), code, payer=own_buyer.address)


@pytest.mark.parametrize("version", [0, 3, "2", True, None, 1.0])
def test_another_protocol_version_is_refused(
    sandbox: RunningSandbox, buyer: Buyer, version: object
) -> None:
    document = buyer.wallet.document(buyer.ask("GET", "/services"))
    document["x402Version"] = version
    _assert_refused(sandbox, buyer, encode(document), "invalid_x402_version")


def _without(document: Json, *path: str) -> Json:
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return document


@pytest.mark.parametrize(
    "path",
    [
        ("payload",),
        ("payload", "signature"),
        ("payload", "authorization"),
        ("payload", "authorization", "nonce"),
        ("payload", "authorization", "value"),
    ],
)
def test_a_payment_with_something_missing_is_refused(
    sandbox: RunningSandbox, buyer: Buyer, path: tuple[str, ...]
) -> None:
    document = buyer.wallet.document(buyer.ask("GET", "/services"))
    _assert_refused(sandbox, buyer, encode(_without(document, *path)), "invalid_payload")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("value", 1000),
        ("value", "01000"),
        ("value", "1e3"),
        ("validBefore", "-1"),
        ("nonce", "0x12"),
        ("from", "somebody"),
        ("to", None),
    ],
)
def test_a_field_of_the_wrong_form_is_refused(
    sandbox: RunningSandbox, buyer: Buyer, name: str, value: object
) -> None:
    document = buyer.wallet.document(buyer.ask("GET", "/services"))
    document["payload"]["authorization"][name] = value
    _assert_refused(sandbox, buyer, encode(document), "invalid_payload")


GARBAGE = [
    "",
    "!!!",
    "e30",
    encode([]),
    encode("text"),
    base64.b64encode(b"\xff\xfe").decode(),
    base64.b64encode(b"[" * 9000).decode(),
    base64.b64encode(b"1" * 6000).decode(),
    "A" * 40_000,
]


@pytest.mark.parametrize("header", GARBAGE)
def test_garbage_in_the_header_is_a_402(sandbox: RunningSandbox, buyer: Buyer, header: str) -> None:
    code = "invalid_x402_version" if header == "e30=" else "invalid_payload"
    _assert_refused(sandbox, buyer, header, code)


def test_a_header_that_is_not_ascii_is_a_402(buyer: Buyer) -> None:
    headers = {buyer.wallet.header_name.encode(): "e30=é".encode("latin-1")}
    response = buyer.http.get("/services", headers=headers)
    assert settlement_of(response, buyer.dialect)["errorReason"] == "invalid_payload"


def test_two_payments_in_one_request_are_refused(buyer: Buyer) -> None:
    header = encode(buyer.wallet.document(buyer.ask("GET", "/services")))
    twice = [(buyer.wallet.header_name, header)] * 2
    response = buyer.http.get("/services", headers=twice)
    assert settlement_of(response, buyer.dialect)["errorReason"] == "invalid_payload"


def test_a_payment_in_another_dialect_is_no_payment(buyer: Buyer) -> None:
    header = encode(buyer.wallet.document(buyer.ask("GET", "/services")))
    other = "X-PAYMENT" if buyer.dialect == "v2" else "PAYMENT-SIGNATURE"
    response = buyer.http.get("/services", headers={other: header})
    assert response.status_code == 402
    assert not {"payment-response", "x-payment-response"} & set(response.headers)


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"service": "nonesuch", "country": "US"}, 404, "service-not-found"),
        ({"service": "telegram", "country": "XX"}, 404, "country-not-found"),
        ({"service": "telegram"}, 400, "validation"),
        ({**ORDER, "rental_hours": 5}, 400, "validation"),
        ({**ORDER, "colour": "red"}, 400, "validation"),
        ({"service": "any", "country": "US"}, 400, "validation"),
        ([], 400, "validation"),
    ],
)
def test_an_order_that_cannot_be_priced_is_refused_before_any_payment_is_asked(
    buyer: Buyer, body: object, status: int, kind: str
) -> None:
    response = buyer.http.post("/orders", json=body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"https://virtualsms.io/errors/{kind}"
    assert problem["status"] == status
    assert problem["instance"] == "/api/v2/orders"
    assert {"title", "detail"} <= set(problem)


def _assert_refused(
    sandbox: RunningSandbox, buyer: Buyer, header: str, code: str, payer: str | None = None
) -> None:
    """Refused with `code`, in both places the dialect has for it, and nothing settled."""
    response = buyer.send("GET", "/services", header)
    challenge = challenge_of(response, buyer.dialect)
    assert challenge["error"] == code
    report = settlement_of(response, buyer.dialect)
    assert report["success"] is False
    assert report["errorReason"] == code
    assert report.get("payer") == payer
    assert not [paid for paid in sandbox.payments() if paid["payer"] == buyer.address]


def test_the_default_key_of_a_sandbox_is_funded(
    sandbox: RunningSandbox, make_buyer: MakeBuyer
) -> None:
    assert sandbox.funded_key is not None
    own = make_buyer(sandbox, key=sandbox.funded_key, funds="0")
    assert own.address == Account.from_key(sandbox.funded_key).address
    assert own.pay("GET", "/me").status_code == 200
