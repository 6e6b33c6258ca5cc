"""One table from errors to exit status, and the sentence and the document of each."""

from __future__ import annotations

import inspect
import json
from decimal import Decimal
from typing import Any

import pytest

from x402sms import errors
from x402sms.cli.failures import EXIT_CODES, describe, exit_code, interrupted
from x402sms.protocol.types import PaymentState, Receipt

EXPECTED = {
    "X402SMSError": 1,
    "ConfigError": 2,
    "ClockSkew": 2,
    "LedgerError": 2,
    "HostNotReachable": 8,
    "PaymentError": 1,
    "ChallengeError": 6,
    "InsecureOrigin": 2,
    "NoAcceptableOffer": 6,
    "SpendLimitExceeded": 3,
    "SigningFailed": 2,
    "PaymentRefused": 4,
    "PaymentUnknown": 5,
    "AlreadyPaid": 5,
    "IntentConflict": 2,
    "APIError": 6,
    "ValidationFailed": 6,
    "Unauthorized": 6,
    "InsufficientBalance": 6,
    "NotFound": 6,
    "ServiceNotFound": 6,
    "CountryNotFound": 6,
    "OrderNotFound": 6,
    "OrderAlreadyConfirmed": 6,
    "OrderExpired": 6,
    "CooldownActive": 6,
    "RateLimited": 6,
    "NoStock": 6,
    "ServerError": 6,
    "HostNotServing": 8,
    "UnreadableResponse": 6,
    "NoCodeReceived": 7,
    "ChainUnreadable": 8,
    "CannotCancel": 2,
    "BooksDisagree": 1,
    "EventStoreError": 2,
    "WebhookSignatureError": 1,
    "WebhookUnreadable": 1,
}
CLASSES = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, Exception)
}


def _receipt(state: PaymentState) -> Receipt:
    return Receipt(
        intent="signup-test",
        amount=Decimal("0.05"),
        network="base",
        payer="0x" + "a" * 40,
        pay_to="0x" + "b" * 40,
        nonce="0x" + "c" * 64,
        valid_before=1_800_000_000,
        transaction=None,
        state=state,
        method="POST",
        url="https://api.example/api/v2/orders",
    )


def _make(kind: type[Exception]) -> Exception:
    """One of `kind`, with something for each argument it cannot do without."""
    values: dict[str, Any] = {"seconds": 300, "host": "api.example", "field": "accepts"}
    values |= {"limit": "per_call", "receipt": _receipt(PaymentState.SETTLED)}
    wanted = inspect.signature(kind.__init__).parameters.values()
    needed = {p.name: values[p.name] for p in wanted if p.default is p.empty and p.name in values}
    return kind("it did not work", **needed)


def test_every_error_is_listed_here() -> None:
    assert set(EXPECTED) == set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_each_error_has_its_exit_status(name: str) -> None:
    error = _make(CLASSES[name])
    assert exit_code(error) == EXPECTED[name]
    failure = describe(error)
    assert failure.exit_code == EXPECTED[name]
    assert failure.kind == name
    assert failure.trace is None
    assert "it did not work" in failure.message
    assert set(failure.facts) >= {"intent", "amount", "nonce", "valid_before"}


def test_only_your_own_limits_give_3() -> None:
    assert [kind for kind, code in EXIT_CODES.items() if code == 3] == [errors.SpendLimitExceeded]


@pytest.mark.parametrize(
    ("state", "status"),
    [("unknown", 5), ("reserved", 5), ("settled", 6), ("refused", 6), ("void", 6)],
)
def test_a_no_whose_payment_is_open_is_an_unknown_outcome(state: str, status: int) -> None:
    error = errors.ServerError("it broke (HTTP 500)", status_code=500)
    error.receipt = _receipt(PaymentState(state))
    failure = describe(error, made=[])
    assert failure.exit_code == status
    assert failure.facts["nonce"] == "0x" + "c" * 64
    assert ("payments reconcile 0xccc" in failure.message) is (status == 5)


def test_what_an_error_knows_goes_into_its_document() -> None:
    error = errors.PaymentUnknown(
        "sent", intent="signup-test", amount=Decimal("0.05"), nonce="0x01", valid_before=0
    )
    facts = describe(error).facts
    assert facts["intent"] == "signup-test"
    assert facts["amount"] == Decimal("0.05")
    assert facts["valid_before"].isoformat() == "1970-01-01T00:00:00+00:00"
    limit = _make(errors.SpendLimitExceeded)
    assert describe(limit).facts["limit"] == "per_call"


def test_an_argument_that_cannot_be_right_is_a_usage_error() -> None:
    assert exit_code(ValueError("hours is a whole number, at least 1")) == 2


def test_a_mistake_of_ours_is_told_as_such_with_its_trace() -> None:
    try:
        json.loads("{")  # a ValueError too, but not one that was meant for the user
    except ValueError as error:
        failure = describe(error)
    assert failure.exit_code == 1
    assert "bug in x402sms" in failure.message
    assert failure.trace is not None


def test_ctrl_c_with_no_money_in_doubt_is_what_a_shell_expects() -> None:
    assert describe(interrupted([])).exit_code == 130


def test_a_message_is_one_line_that_cannot_steer_a_terminal() -> None:
    failure = describe(errors.ServerError("a\x1b[31m\nb"))
    assert "\x1b" not in failure.message
    assert "\n" not in failure.message


def test_notes_become_sentences() -> None:
    error = errors.NoCodeReceived("no SMS within 5 s")
    error.add_note("The order is open")
    assert describe(error).message == "no SMS within 5 s. The order is open"
