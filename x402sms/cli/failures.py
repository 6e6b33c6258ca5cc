"""Errors -> exit status, one sentence for people and one document for programs.

    0 done            4 the server refused the payment
    1 unexpected      5 outcome unknown: money may have moved
    2 usage, setup    6 the service said no, or asks for what we never pay; nothing signed for it
    3 your limits     7 no code in time
                      8 host not reachable, or not serving the API

Only your own limits give 3. A 402 that is malformed (ChallengeError) or asks for another token or
network (NoAcceptableOffer) is the service's doing: 6.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from x402sms import errors
from x402sms.text import one_line

if TYPE_CHECKING:
    from x402sms.ledger import Charge, Payment

UNEXPECTED, USAGE, LIMITS, REFUSED, UNKNOWN, SERVICE, NO_CODE, HOST = range(1, 9)
INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C

# The class itself or its nearest base decides.
EXIT_CODES: dict[type[BaseException], int] = {
    BaseException: UNEXPECTED,
    ValueError: USAGE,  # an argument that cannot be right, refused before anything is sent
    errors.ConfigError: USAGE,
    errors.LedgerError: USAGE,
    errors.InsecureOrigin: USAGE,
    errors.SigningFailed: USAGE,
    errors.EventStoreError: USAGE,
    errors.CannotCancel: USAGE,  # nothing sent; it says what is missing, and where to send it
    errors.AlreadyPaid: UNKNOWN,  # the money has moved; what it bought is to be found out
    errors.IntentConflict: USAGE,
    errors.SpendLimitExceeded: LIMITS,
    errors.PaymentRefused: REFUSED,
    errors.PaymentUnknown: UNKNOWN,
    errors.ChallengeError: SERVICE,
    errors.NoAcceptableOffer: SERVICE,
    errors.APIError: SERVICE,
    errors.NoCodeReceived: NO_CODE,
    errors.HostNotReachable: HOST,
    errors.HostNotServing: HOST,
    errors.ChainUnreadable: HOST,  # the RPC's
    KeyboardInterrupt: INTERRUPTED,
}

_OPEN_STATES = ("unknown", "reserved")
# What an error may know, beside its message; each is shown where it is known.
_FACTS = (
    "limit",
    "allowed",
    "spent",
    "reason",
    "field",
    "seconds",
    "host",
    "status_code",
    "retry_after",
    "request_id",
    "order_id",
    "cancelled",
    "refunded",
    "cost",
)


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong, ready to be told. `trace` only for what is our mistake."""

    kind: str
    message: str
    exit_code: int
    facts: dict[str, Any]
    trace: str | None = None
    payments: Sequence[Payment] = field(default=())


def exit_code(error: BaseException) -> int:
    receipt = getattr(error, "receipt", None)
    if isinstance(error, errors.APIError) and receipt and receipt.state in _OPEN_STATES:
        return UNKNOWN
    kind = type(error)
    if kind is not ValueError and not issubclass(kind, errors.X402SMSError):
        # A subclass of ValueError (from json, say) is no word of ours to the user.
        return INTERRUPTED if kind is KeyboardInterrupt else UNEXPECTED
    return next(EXIT_CODES[base] for base in kind.__mro__ if base in EXIT_CODES)


def describe(
    error: BaseException,
    made: Sequence[Payment] = (),
    facts: Mapping[str, Any] | None = None,
    *,
    charged: Sequence[Charge] = (),
) -> Failure:
    """`made` are the payments of this run, `charged` what came from a balance: if there are none,
    nobody needs to wonder.

    `facts` are what its command knows beside them.
    """
    code = exit_code(error)
    kind = type(error).__name__
    notes = dict.fromkeys(getattr(error, "__notes__", ()))  # each once
    sentences = [str(error) or kind, *(note for note in notes if note not in str(error))]
    if isinstance(error, errors.APIError) and not made and not charged:
        sentences.append("Nothing was paid")
    if isinstance(error, errors.APIError) and code == UNKNOWN:
        nonce = _payment_of(error).nonce
        sentences.append(f"Its payment may have been taken: `x402sms payments reconcile {nonce}`")
    message = one_line(". ".join(sentence.rstrip(".") for sentence in sentences), 2000)
    trace = None
    if code == UNEXPECTED and not isinstance(error, errors.X402SMSError):
        trace = "".join(traceback.format_exception(error))
        message = f"unexpected {kind}: {message}. This is a bug in x402sms: please report it"
    return Failure(kind, message, code, {**_facts(error), **(facts or {})}, trace, made)


def interrupted(made: Sequence[Payment], charged: Sequence[Charge] = ()) -> BaseException:
    """Ctrl-C while a payment is on its way leaves it open; else it is only Ctrl-C."""
    for charge in charged:
        if charge.state in _OPEN_STATES:
            return stopped_while_charged(charge)
    for payment in made:
        if payment.state in _OPEN_STATES:
            return stopped_while_paying(payment)
    return KeyboardInterrupt("stopped")


def stopped_while_paying(payment: Payment) -> errors.PaymentUnknown:
    from x402sms.money import format_usdc

    return errors.PaymentUnknown(
        f"stopped while {format_usdc(payment.amount_atomic)} USDC for {payment.method} "
        f"{payment.url} was on its way ({payment.state}): it may have been taken, and can settle "
        f"until {utc(payment.valid_before)}. `x402sms recover` finds what it bought, and "
        f"`x402sms payments reconcile {payment.nonce}` what became of it",
        intent=payment.intent,
        amount=payment.amount,
        nonce=payment.nonce,
        valid_before=payment.valid_before,
    )


def stopped_while_charged(charge: Charge) -> errors.PaymentUnknown:
    return errors.PaymentUnknown(
        f"stopped while {charge.what} was being bought from the balance: it may have been charged. "
        "See `x402sms orders list`; the same again with the intent "
        f"{charge.intent!r} looks for the order and never buys a second one",
        intent=charge.intent,
    )


def utc(seconds: int) -> str:
    """Unix time as people read it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _facts(error: BaseException) -> dict[str, Any]:
    paid = _payment_of(error)
    valid_before = getattr(paid, "valid_before", None)
    facts = {name: getattr(paid, name, None) for name in ("intent", "amount", "nonce")}
    facts["valid_before"] = (
        None if valid_before is None else datetime.fromtimestamp(valid_before, UTC)
    )
    if not isinstance(error, errors.X402SMSError):
        return facts  # a stranger's attributes are no facts
    more = {name: getattr(error, name, None) for name in _FACTS}
    return facts | {name: value for name, value in more.items() if value is not None}


def _payment_of(error: BaseException) -> Any:
    """What knows of the payment: the error itself, or the receipt that came with an answer."""
    return getattr(error, "receipt", None) or error
