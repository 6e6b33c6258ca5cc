"""Every error x402sms raises.

    X402SMSError
    ├── ConfigError                a setting, a key file, a ledger path is wrong; nothing was sent
    │   └── ClockSkew              this machine's clock and the server's are too far apart to sign
    ├── LedgerError                the ledger could not be read or written; nothing was signed
    ├── ChainUnreadable            the chain could not be asked; never "not settled"
    ├── CannotCancel               no cancellation was sent, mostly for want of ETH for the gas
    ├── HostNotReachable           no answer to a request without a payment; nothing was signed
    ├── PaymentError               about money: carries intent, amount, nonce, valid_before
    │   ├── ChallengeError         the 402 is malformed or breaks a bound; nothing was signed
    │   ├── InsecureOrigin         plain http:// to another machine; nothing was signed
    │   ├── NoAcceptableOffer      the 402 offers nothing we may pay; nothing was signed
    │   ├── SpendLimitExceeded     your own limits refuse it; nothing was signed
    │   ├── SigningFailed          the signer failed or signed something else; nothing was sent
    │   ├── PaymentRefused         the server says it did not take the payment that was sent
    │   ├── PaymentUnknown         a payment was sent and what became of it is not known
    │   ├── AlreadyPaid            this intent is settled; nothing more was signed
    │   └── IntentConflict         this intent was used to buy something else; nothing was signed
    ├── APIError                   the service said no: RFC 7807 fields, response, request_id
    │   ├── ValidationFailed       400 validation
    │   ├── Unauthorized           401 unauthorized
    │   ├── InsufficientBalance    402 insufficient-balance (the account's, not the wallet's)
    │   ├── NotFound               404 with a problem body
    │   │   ├── ServiceNotFound    404 service-not-found
    │   │   ├── CountryNotFound    404 country-not-found
    │   │   └── OrderNotFound      404 order-not-found
    │   ├── OrderAlreadyConfirmed  409 order-already-confirmed
    │   ├── OrderExpired           410 order-expired
    │   ├── CooldownActive         425, or a hold period: too early to swap or cancel
    │   ├── RateLimited            429 rate-limited
    │   ├── NoStock                503 no-stock
    │   ├── ServerError            any other 5xx
    │   ├── HostNotServing         a bare 404: the API does not live at this address
    │   └── UnreadableResponse     a success whose body is not what the reference says
    ├── BooksDisagree              the demo's receipt is not what the sandbox has in its books
    ├── NoCodeReceived             no SMS in time
    ├── EventStoreError            what webhooks told could not be written down or read
    ├── WebhookSignatureError      a webhook whose signature does not verify
    └── WebhookUnreadable          a webhook that is signed, and no event

A key, a password or a signature is in none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

    from x402sms.protocol.types import Receipt


class X402SMSError(Exception):
    """The root: `except X402SMSError` catches all that this package raises on purpose."""


class ConfigError(X402SMSError):
    """A setting, key, keystore or path is missing or wrong. Nothing was sent."""


class ClockSkew(ConfigError):
    """This machine's clock differs too much from the server's `Date` to sign a time window.

    `seconds` is how far the local clock is ahead (negative: behind).
    """

    def __init__(self, message: str, *, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class LedgerError(X402SMSError):
    """The ledger cannot be read or written, so nothing is signed."""


class ChainUnreadable(X402SMSError):
    """The chain could not be read, so nothing is known. It is never "not settled"."""


class CannotCancel(X402SMSError):
    """Nothing was cancelled. `missing_wei` is the ETH that `gas_payer` lacks, if it is that."""

    def __init__(self, message: str, *, gas_payer: str | None = None, missing_wei: int = 0) -> None:
        super().__init__(message)
        self.gas_payer = gas_payer
        self.missing_wei = missing_wei


class HostNotReachable(X402SMSError):
    """`host` gave no answer to a request that carried no payment. Nothing was signed for it."""

    def __init__(self, message: str, *, host: str) -> None:
        super().__init__(message)
        self.host = host


class PaymentError(X402SMSError):
    """Something about a payment. What is known of it rides along, else None.

    `amount` is in USDC, `nonce` is `0x` + 32 bytes as hex, `valid_before` is Unix time in
    seconds: after it, by the chain's clock, the authorization can no longer settle.
    """

    def __init__(
        self,
        message: str,
        *,
        intent: str | None = None,
        amount: Decimal | None = None,
        nonce: str | None = None,
        valid_before: int | None = None,
    ) -> None:
        super().__init__(message)
        self.intent = intent
        self.amount = amount
        self.nonce = nonce
        self.valid_before = valid_before


class ChallengeError(PaymentError):
    """A 402 that is malformed, out of bounds or contradicts itself. Nothing was signed.

    `field` names what is wrong, as a path: `accepts[0].amount`.
    """

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__(f"malformed payment challenge: {field}: {message}")
        self.field = field


class InsecureOrigin(PaymentError):
    """A payment was asked for over plain `http://` by another machine. Nothing was signed."""


class NoAcceptableOffer(PaymentError):
    """None of the offers in a 402 may be paid. `offered` says what they were."""

    def __init__(self, message: str, *, offered: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.offered = offered


class SpendLimitExceeded(PaymentError):
    """Your own limits refuse this payment. Nothing was signed.

    `limit` names the limit (`per_call`, `max_amount`, `per_hour`, `per_day`, `total`, `pay_to`),
    `allowed` is what it allows in USDC and `spent` what already counts against it; both are None
    where the limit is no amount.
    """

    def __init__(
        self,
        message: str,
        *,
        limit: str,
        allowed: Decimal | None = None,
        spent: Decimal | None = None,
        intent: str | None = None,
        amount: Decimal | None = None,
    ) -> None:
        super().__init__(message, intent=intent, amount=amount)
        self.limit = limit
        self.allowed = allowed
        self.spent = spent


class SigningFailed(PaymentError):
    """The signer raised, or returned something that is not its signature. Nothing was sent."""


class PaymentRefused(PaymentError):
    """The server says it did not accept the payment. That is its claim, not proof.

    The authorization stays settleable until `valid_before` and counts against the budgets until
    the chain shows otherwise. `reason` is the server's own word, such as `insufficient_funds`;
    `response` is its answer.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        response: httpx.Response | None = None,
        intent: str | None = None,
        amount: Decimal | None = None,
        nonce: str | None = None,
        valid_before: int | None = None,
    ) -> None:
        super().__init__(
            message, intent=intent, amount=amount, nonce=nonce, valid_before=valid_before
        )
        self.reason = reason
        self.response = response


class PaymentUnknown(PaymentError):
    """A signed payment left, and no answer says what became of it. It counts as spent."""


class AlreadyPaid(PaymentError):
    """The intent is settled already. `receipt` is that payment; nothing more was signed."""

    def __init__(self, message: str, *, receipt: Receipt) -> None:
        super().__init__(
            message,
            intent=receipt.intent,
            amount=receipt.amount,
            nonce=receipt.nonce,
            valid_before=receipt.valid_before,
        )
        self.receipt = receipt


class IntentConflict(PaymentError):
    """The intent was used before to buy something else. Nothing was signed."""


class APIError(X402SMSError):
    """The service refused. The fields are RFC 7807's; each is None where the body lacks it.

    `type` is the problem's last path segment (`no-stock`), `problem` the whole body if it was a
    JSON object. A paid call that fails this way carries its payment in `receipt`.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        type: str | None = None,  # noqa: A002  RFC 7807 names the field so
        title: str | None = None,
        detail: str | None = None,
        instance: str | None = None,
        problem: Mapping[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.type = type
        self.title = title
        self.detail = detail
        self.instance = instance
        self.problem = problem
        self.retry_after = retry_after
        self.response: httpx.Response | None = None
        self.request_id: str | None = None
        self.receipt: Receipt | None = None


class ValidationFailed(APIError):
    """400: the request's body or parameters are wrong."""


class Unauthorized(APIError):
    """401: missing or wrong API key."""


class InsufficientBalance(APIError):
    """402 from the account's balance: top up. (A wallet without USDC is `PaymentRefused`.)"""


class NotFound(APIError):
    """404 with a problem body."""


class ServiceNotFound(NotFound):
    """404: no service of that id."""


class CountryNotFound(NotFound):
    """404: no country of that code."""


class OrderNotFound(NotFound):
    """404: no such order, or it belongs to another wallet."""


class OrderAlreadyConfirmed(APIError):
    """409: swap or cancel of a confirmed order."""


class OrderExpired(APIError):
    """410: the order's window has passed."""


class CooldownActive(APIError):
    """425, or a hold period in the body: wait `retry_after` seconds, then swap or cancel."""


class RateLimited(APIError):
    """429: wait `retry_after` seconds."""


class NoStock(APIError):
    """503: no number in that country now; try another."""


class ServerError(APIError):
    """Any other 5xx."""


class HostNotServing(APIError):
    """A 404 that is no problem document: this host does not serve the API at all."""


class UnreadableResponse(APIError):
    """A success whose body is not what the API reference describes."""


class NoCodeReceived(X402SMSError):
    """No SMS arrived in time. `order_id` is the order; `cancelled` says whether it was cancelled
    (True), was not (False), or could not be found out (None). `refunded` is what is known to have
    come back and `cost` what the job cost all the same, in USDC."""

    def __init__(
        self,
        message: str,
        *,
        order_id: str | None = None,
        cancelled: bool | None = None,
        refunded: Decimal | None = None,
        cost: Decimal | None = None,
    ) -> None:
        super().__init__(message)
        self.order_id = order_id
        self.cancelled = cancelled
        self.refunded = refunded
        self.cost = cost


class BooksDisagree(X402SMSError):
    """The demo's receipt and the sandbox's own books differ."""


class EventStoreError(X402SMSError):
    """The file of the webhooks' events cannot be read or written. No money is involved."""


class WebhookSignatureError(X402SMSError):
    """A webhook's signature is missing, malformed, stale or wrong."""


class WebhookUnreadable(X402SMSError):
    """The body of a webhook is too large, no JSON, or no event."""
