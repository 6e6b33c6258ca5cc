"""The paid call: every case once, over {sync, async} x {v1, v2, header}."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from email.utils import formatdate
from typing import Any

import httpx
import pytest
from eth_account import Account

from tests.buyer import COLOURS, Buyer, Colour, receipt_of
from tests.shop import DIALECTS, PAY_TO, PRICE_ATOMIC, TRANSACTION, Seen, Shop, Stream, encoded
from x402sms import SpendLimits, Wallet, X402Transport
from x402sms.errors import (
    AlreadyPaid,
    ChallengeError,
    ClockSkew,
    ConfigError,
    InsecureOrigin,
    IntentConflict,
    LedgerError,
    NoAcceptableOffer,
    PaymentError,
    PaymentRefused,
    PaymentUnknown,
    SigningFailed,
    SpendLimitExceeded,
)
from x402sms.ledger import SQLiteLedger, default_ledger_path
from x402sms.protocol.types import PaymentState

OTHER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"


@pytest.fixture(params=DIALECTS)
def shop(request: pytest.FixtureRequest) -> Shop:
    return Shop(request.param)


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    colour: Colour = request.param
    return colour


@pytest.fixture
def buyer(colour: Colour, shop: Shop) -> Buyer:
    return Buyer(colour, shop)


def assert_nothing_signed(buyer: Buyer, shop: Shop) -> None:
    assert shop.paid == []
    assert buyer.payments == []


# What is paid


def test_a_paid_get_is_answered_and_leaves_a_receipt(buyer: Buyer, shop: Shop) -> None:
    response = buyer.get("https://shop.example/x?phone=secret")
    assert response.json() == {"delivered": True}
    receipt = receipt_of(response)
    [paid] = shop.paid
    assert (receipt.amount, receipt.state) == (Decimal("0.01"), PaymentState.SETTLED)
    assert (receipt.nonce, receipt.transaction) == (paid.nonce, TRANSACTION)
    assert (receipt.network, receipt.pay_to) == ("base", PAY_TO)
    assert not receipt.verified
    [row] = buyer.payments
    assert row.receipt() == receipt
    assert row.url == "https://shop.example/x"  # a query may hold what is nobody's business


def test_a_paid_post_sends_the_same_body_twice(buyer: Buyer, shop: Shop) -> None:
    assert buyer.post(json={"service": "telegram"}).is_success
    bodies = [json.loads(seen.body) for seen in shop.seen]
    assert bodies == [{"service": "telegram"}] * 2


def test_a_streamed_body_is_buffered_once_and_replayed(buyer: Buyer, shop: Shop) -> None:
    assert buyer.post(chunks=[b"one ", b"time ", b"only"]).is_success
    assert [seen.body for seen in shop.seen] == [b"one time only"] * 2


def test_the_authorization_is_for_what_was_asked_and_no_longer(buyer: Buyer, shop: Shop) -> None:
    buyer.settings["clock"] = lambda: 1_800_000_000.7
    buyer.settings["limits"] = SpendLimits(authorization_ttl=120)
    buyer.get()
    authorization = shop.paid[0].authorization
    assert authorization["value"] == str(PRICE_ATOMIC)
    assert authorization["to"] == PAY_TO
    assert authorization["validAfter"] == str(1_800_000_000 - 600)
    window = 120 if shop.dialect == "header" else 60
    assert authorization["validBefore"] == str(1_800_000_000 + window)


def test_an_authorization_outlives_a_long_poll(buyer: Buyer, shop: Shop) -> None:
    buyer.settings["clock"] = lambda: 1_800_000_000.0
    buyer.get(timeout=httpx.Timeout(5, read=200))
    assert int(shop.paid[0].authorization["validBefore"]) >= 1_800_000_000 + 200


def test_the_first_answer_is_closed_before_the_paid_request(buyer: Buyer, shop: Shop) -> None:
    closed: list[bool] = []

    def look(_: Seen) -> httpx.Response:
        closed.append(shop.streams[0].closed)
        return shop.settled()

    shop.on_paid = look
    buyer.get()
    assert closed == [True]


def test_a_zipped_challenge_is_read(buyer: Buyer, shop: Shop) -> None:
    def zipped(_: Seen) -> httpx.Response:
        plain = shop.challenge()
        assert isinstance(plain.stream, Stream)
        headers = dict(plain.headers) | {"Content-Encoding": "gzip"}
        return shop.respond(402, headers, gzip.compress(plain.stream.chunks[0]))

    shop.on_unpaid = zipped
    assert buyer.get().is_success


def test_a_foreign_signer_pays_as_well(buyer: Buyer, shop: Shop) -> None:
    buyer.wallet = Account.create()
    assert receipt_of(buyer.get()).payer == buyer.wallet.address


def test_the_payment_header_is_on_no_request_that_the_caller_can_see(
    buyer: Buyer, shop: Shop
) -> None:
    response = buyer.get()
    names = {name.lower() for name in response.request.headers}
    assert names.isdisjoint({"payment-signature", "x-payment"})
    assert len(shop.paid) == 1


def test_a_callback_gets_the_receipt_and_cannot_cost_the_answer(
    buyer: Buyer, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []

    def callback(receipt: Any) -> None:
        told.append(receipt)
        raise ValueError("the callback's own fault")

    buyer.settings["on_payment"] = callback
    response = buyer.get()
    assert response.is_success
    assert told == [receipt_of(response)]
    assert "on_payment failed" in caplog.text


# What passes through


def test_what_costs_nothing_passes_through(buyer: Buyer, shop: Shop) -> None:
    response = buyer.get("https://shop.example/free")
    assert response.text == "free"
    assert "x402" not in response.extensions
    assert_nothing_signed(buyer, shop)


def test_a_402_that_is_no_challenge_passes_through_with_its_body(buyer: Buyer, shop: Shop) -> None:
    problem = {"type": "https://virtualsms.io/errors/insufficient-balance", "status": 402}
    content = json.dumps(problem).encode()
    shop.on_unpaid = lambda _: shop.respond(
        402, {"Content-Type": "application/problem+json"}, content
    )
    response = buyer.get()
    assert (response.status_code, response.json()) == (402, problem)
    assert_nothing_signed(buyer, shop)


def test_a_402_page_for_people_passes_through_unread_however_large(
    buyer: Buyer, shop: Shop
) -> None:
    page = Stream([b"x" * 60_000] * 3)
    shop.on_unpaid = lambda _: httpx.Response(
        402, headers={"Content-Type": "text/html"}, stream=page
    )
    assert len(buyer.get().content) == 180_000
    assert_nothing_signed(buyer, shop)


# What is refused with nothing signed


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"limits": SpendLimits(per_call="0.009")}, SpendLimitExceeded, "per_call"),
        ({"limits": SpendLimits(per_day="0.009")}, SpendLimitExceeded, "per_day"),
        ({"limits": SpendLimits(per_hour="0.009")}, SpendLimitExceeded, "per_hour"),
        ({"limits": SpendLimits(total="0.009")}, SpendLimitExceeded, "total"),
        ({"limits": SpendLimits(pay_to=OTHER)}, SpendLimitExceeded, "recipients you allow"),
        ({"limits": SpendLimits(pay_to={PAY_TO: "0.009"})}, SpendLimitExceeded, "pay_to"),
        ({"network": "base-sepolia"}, NoAcceptableOffer, "this wallet is set to base-sepolia"),
    ],
)
def test_what_the_limits_or_the_network_forbid_is_not_signed(
    buyer: Buyer, shop: Shop, settings: dict[str, Any], error: type[PaymentError], says: str
) -> None:
    buyer.settings |= settings
    with pytest.raises(error, match=says) as caught:
        buyer.get()
    assert "nothing signed" in str(caught.value)
    assert_nothing_signed(buyer, shop)
    assert shop.streams[0].closed


def test_a_request_can_have_a_ceiling_of_its_own(buyer: Buyer, shop: Shop) -> None:
    with pytest.raises(SpendLimitExceeded, match="max_amount") as caught:
        buyer.get(x402={"max_amount": "0.009999", "intent": "invoice-7"})
    assert (caught.value.intent, caught.value.amount) == ("invoice-7", Decimal("0.01"))
    assert_nothing_signed(buyer, shop)
    assert buyer.get(x402={"max_amount": "0.01"}).is_success


@pytest.mark.parametrize(
    "url", ["http://shop.example/x", "http://192.168.0.1/x", "http://127.1/x", "http://[::2]/x"]
)
def test_plain_http_to_another_machine_is_not_paid(buyer: Buyer, shop: Shop, url: str) -> None:
    with pytest.raises(InsecureOrigin, match="use https"):
        buyer.get(url)
    assert_nothing_signed(buyer, shop)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8402/x", "http://localhost/x", "http://[::1]/x", "http://127.9.9.9/x"]
)
def test_plain_http_to_this_machine_is_paid(buyer: Buyer, url: str) -> None:
    assert receipt_of(buyer.get(url)).state is PaymentState.SETTLED


@pytest.mark.parametrize(
    ("ahead", "says"), [(-423, "7 min 3 s behind"), (600, "10 min 0 s ahead of")]
)
def test_a_clock_minutes_off_is_told_and_nothing_is_signed(
    buyer: Buyer, shop: Shop, ahead: int, says: str
) -> None:
    server_time = 1_800_000_000
    shop.date = formatdate(server_time, usegmt=True)
    buyer.settings["clock"] = lambda: server_time + ahead
    with pytest.raises(ClockSkew, match=says) as caught:
        buyer.get()
    assert caught.value.seconds == ahead
    assert_nothing_signed(buyer, shop)
    buyer.settings["max_clock_skew"] = None
    assert buyer.get().is_success


def test_a_challenge_beyond_the_bound_is_neither_kept_nor_answered(
    buyer: Buyer, shop: Shop
) -> None:
    endless = Stream([b'{"x402Version": 1, ' + b" " * 30_000] * 1000)
    shop.on_unpaid = lambda _: httpx.Response(
        402, headers={"Content-Type": "application/json"}, stream=endless
    )
    with pytest.raises(ChallengeError, match="64 KiB"):
        buyer.get()
    assert endless.taken == 3
    assert endless.closed
    assert_nothing_signed(buyer, shop)


class _FullDisk(SQLiteLedger):
    def reserve(self, *_: Any, **__: Any) -> None:
        raise LedgerError("the disk is full")


def test_without_a_ledger_nothing_is_signed(buyer: Buyer, shop: Shop) -> None:
    buyer.ledger = _FullDisk(":memory:")
    with pytest.raises(LedgerError, match="disk is full"):
        buyer.get()
    assert_nothing_signed(buyer, shop)


def test_the_row_is_written_before_the_signature_exists(buyer: Buyer, shop: Shop) -> None:
    states: list[PaymentState] = []

    class Watching:
        """A signer that looks into the ledger while it is asked to sign."""

        def __init__(self) -> None:
            self._account = Account.create()
            self.address: str = self._account.address

        def sign_typed_data(self, *parts: Any) -> Any:
            states.extend(payment.state for payment in buyer.payments)
            return self._account.sign_typed_data(*parts)

    buyer.wallet = Watching()
    assert buyer.get().is_success
    assert states == [PaymentState.RESERVED]


def test_a_signer_that_fails_leaves_a_void_row_and_sends_nothing(buyer: Buyer, shop: Shop) -> None:
    class Locked:
        address = OTHER

        def sign_typed_data(self, *_: Any) -> bytes:
            raise RuntimeError("PIN 1234 is wrong")

    buyer.wallet = Locked()
    with pytest.raises(SigningFailed, match="RuntimeError") as caught:
        buyer.get()
    assert "1234" not in str(caught.value)
    assert shop.paid == []
    assert [row.state for row in buyer.payments] == [PaymentState.VOID]


@pytest.mark.parametrize(
    "x402",
    [
        {"max_amount": 0.05},
        {"max_amount": "-1"},
        {"intent": ""},
        {"intent": "x" * 201},
        {"intent": "a\nb"},
        {"intent": 7},
        {"limit": "1"},
    ],
)
def test_options_that_cannot_be_meant_are_refused_before_anything_is_sent(
    buyer: Buyer, shop: Shop, x402: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        buyer.get(x402=x402)
    assert shop.seen == []


# What happens after the payment was sent


def answers(status: int, **headers: str) -> Callable[[Shop], httpx.Response]:
    return lambda shop: shop.respond(status, headers, b'{"error": "no"}')


AFTER_PAYMENT = {
    "a client error": (answers(404), PaymentState.REFUSED),
    "a problem document": (
        lambda shop: shop.respond(503, {"Content-Type": "application/problem+json"}, b"{}"),
        PaymentState.REFUSED,
    ),
    "a success without a settlement": (answers(200), PaymentState.UNKNOWN),
    "a settlement on another chain": (
        lambda shop: shop.settled(network="eip155:1"),
        PaymentState.UNKNOWN,
    ),
    "a settlement of another payer": (lambda shop: shop.settled(payer=OTHER), PaymentState.UNKNOWN),
    "a settlement of another amount": (lambda shop: shop.settled(amount="1"), PaymentState.UNKNOWN),
    "a settlement without a hash": (
        lambda shop: shop.settled(transaction=""),
        PaymentState.UNKNOWN,
    ),
    "a settlement that failed": (
        lambda shop: shop.settled(success=False, errorReason="insufficient_funds"),
        PaymentState.REFUSED,
    ),
    "a settlement in full": (
        lambda shop: shop.settled(amount=str(PRICE_ATOMIC)),
        PaymentState.SETTLED,
    ),
    "a settled error": (
        lambda shop: shop.respond(
            500,
            {
                shop.settlement_header: encoded(
                    {"success": True, "transaction": TRANSACTION, "network": "base"}
                )
            },
            b"",
        ),
        PaymentState.SETTLED,
    ),
}


@pytest.mark.parametrize(("answer", "state"), AFTER_PAYMENT.values(), ids=AFTER_PAYMENT)
def test_an_answer_to_a_payment_is_handed_over_with_what_it_says_of_the_money(
    buyer: Buyer, shop: Shop, answer: Callable[[Shop], httpx.Response], state: PaymentState
) -> None:
    shop.on_paid = lambda _: answer(shop)
    receipt = receipt_of(buyer.get())
    assert receipt.state is state
    assert [row.state for row in buyer.payments] == [state]
    assert (receipt.transaction is not None) == (state is PaymentState.SETTLED)
    assert len(shop.paid) == 1


def test_a_second_402_is_answered_with_the_same_payment_or_not_at_all(
    buyer: Buyer, shop: Shop
) -> None:
    shop.on_paid = lambda _: shop.challenge()
    with pytest.raises(PaymentRefused, match="can still settle until") as caught:
        buyer.get()
    error = caught.value
    [row] = buyer.payments
    assert len(shop.paid) == 4
    assert payments_shown(shop) == 1
    assert (error.nonce, error.valid_before) == (row.nonce, row.valid_before)
    assert (error.amount, error.intent) == (Decimal("0.01"), row.intent)
    assert row.state is PaymentState.REFUSED
    assert error.response is not None
    assert error.response.status_code == 402


@pytest.mark.parametrize("amount_atomic", [1, PRICE_ATOMIC + 1, 999_999])
def test_a_new_price_within_the_ceiling_is_signed_under_the_same_nonce(
    buyer: Buyer, shop: Shop, amount_atomic: int
) -> None:
    def other(seen: Seen) -> httpx.Response:
        shop.amount_atomic = amount_atomic
        asked = seen.authorization["value"] == str(amount_atomic)
        return shop.settled() if asked else shop.challenge()

    shop.on_paid = other
    receipt = receipt_of(buyer.get())
    assert receipt.amount == Decimal(amount_atomic).scaleb(-6)
    assert len(shop.nonces) == 1
    [row] = buyer.payments
    assert row.reserved_atomic == max(amount_atomic, PRICE_ATOMIC)


def test_a_server_that_raises_its_price_again_and_again_gets_one_nonce(
    buyer: Buyer, shop: Shop
) -> None:
    def dearer(_: Seen) -> httpx.Response:
        shop.amount_atomic += 1
        return shop.challenge()

    shop.on_paid = dearer
    with pytest.raises(PaymentRefused):
        buyer.get()
    assert len(shop.nonces) == 1
    assert len({seen.authorization["value"] for seen in shop.paid}) == 2


@pytest.mark.parametrize(
    ("x402", "limits"),
    [({"max_amount": "0.01"}, None), ({}, SpendLimits(per_call="0.01"))],
    ids=["the request's own ceiling", "per_call"],
)
def test_a_second_price_above_the_ceiling_is_not_signed(
    buyer: Buyer, shop: Shop, x402: dict[str, Any], limits: SpendLimits | None
) -> None:
    """Probed at a cent and asked for 950 dollars the second time."""

    def dearer(_: Seen) -> httpx.Response:
        shop.amount_atomic = 950_000_000
        return shop.challenge()

    shop.on_paid = dearer
    buyer.settings["limits"] = limits
    with pytest.raises(PaymentRefused, match="asks for something else now"):
        buyer.get(x402=x402)
    assert [seen.authorization["value"] for seen in shop.paid] == [str(PRICE_ATOMIC)]
    assert [row.reserved_atomic for row in buyer.payments] == [PRICE_ATOMIC]


def test_a_wallet_without_money_is_told_where_to_send_it(buyer: Buyer, shop: Shop) -> None:
    def broke(_: Seen) -> httpx.Response:
        failed = {"success": False, "errorReason": "insufficient_funds", "transaction": ""}
        return shop.respond(402, {shop.settlement_header: encoded(failed)}, b"")

    shop.on_paid = broke
    with pytest.raises(PaymentRefused, match="send USDC to it") as caught:
        buyer.get()
    assert caught.value.reason == "insufficient_funds"
    assert buyer.wallet.address in str(caught.value)


def test_a_402_that_claims_settlement_is_unknown(buyer: Buyer, shop: Shop) -> None:
    def both(_: Seen) -> httpx.Response:
        response = shop.settled()
        response.status_code = 402
        return response

    shop.on_paid = both
    with pytest.raises(PaymentUnknown, match="asks for payment again"):
        buyer.get()
    assert [row.state for row in buyer.payments] == [PaymentState.UNKNOWN]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_error_is_unclear_and_the_same_payment_is_presented_again(
    buyer: Buyer, shop: Shop, status: int
) -> None:
    shop.on_paid = lambda _: shop.respond(status, {"Content-Type": "text/html"}, b"<html>")
    with pytest.raises(PaymentUnknown, match=f"answered {status}") as caught:
        buyer.get()
    assert "x402sms payments reconcile" in str(caught.value)
    assert len(shop.paid) == 4
    assert payments_shown(shop) == 1
    assert all(stream.closed for stream in shop.streams)


@pytest.mark.parametrize("losses", [1, 2, 3])
def test_an_answer_that_comes_in_the_end_is_paid_for_once(
    buyer: Buyer, shop: Shop, losses: int
) -> None:
    def lose(_: Seen) -> httpx.Response:
        if len(shop.paid) <= losses:
            raise httpx.ReadTimeout("slow")
        return shop.settled()

    shop.on_paid = lose
    assert receipt_of(buyer.get()).state is PaymentState.SETTLED
    assert len(shop.paid) == losses + 1
    assert len(shop.nonces) == 1


def test_a_refusal_after_a_lost_answer_proves_nothing(buyer: Buyer, shop: Shop) -> None:
    """The first one may have settled, and emptied the wallet."""

    def broke(_: Seen) -> httpx.Response:
        if len(shop.paid) == 1:
            raise httpx.ReadTimeout("slow")
        failed = {"success": False, "errorReason": "insufficient_funds", "transaction": ""}
        return shop.respond(402, {shop.settlement_header: encoded(failed)}, b"")

    shop.on_paid = broke
    with pytest.raises(PaymentUnknown, match="insufficient_funds"):
        buyer.get()
    assert [row.state for row in buyer.payments] == [PaymentState.UNKNOWN]


def test_a_connection_that_goes_away_after_a_lost_answer_is_unclear(
    buyer: Buyer, shop: Shop
) -> None:
    def gone(_: Seen) -> httpx.Response:
        if len(shop.paid) == 1:
            raise httpx.ReadTimeout("slow")
        raise httpx.ConnectError("refused")

    shop.on_paid = gone
    with pytest.raises(PaymentUnknown, match="ConnectError"):
        buyer.get()
    assert [row.state for row in buyer.payments] == [PaymentState.UNKNOWN]


def test_the_same_payment_is_not_presented_when_its_time_is_over(buyer: Buyer, shop: Shop) -> None:
    now = [1_800_000_000.0]
    buyer.settings["clock"] = lambda: now[0]

    def slow(_: Seen) -> httpx.Response:
        now[0] += 400
        raise httpx.ReadTimeout("slow")

    shop.on_paid = slow
    with pytest.raises(PaymentUnknown):
        buyer.get()
    assert len(shop.paid) == 1


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ReadTimeout("slow"),
        httpx.ReadError("cut"),
        httpx.RemoteProtocolError("half"),
        OSError(),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_a_lost_answer_is_unknown_and_says_what_was_promised(
    buyer: Buyer, shop: Shop, failure: Exception
) -> None:
    def lose(_: Seen) -> httpx.Response:
        raise failure

    shop.on_paid = lose
    with pytest.raises(PaymentUnknown, match="counts as spent") as caught:
        buyer.get(x402={"intent": "invoice-7"})
    error = caught.value
    [row] = buyer.payments
    assert row.state is PaymentState.UNKNOWN
    assert error.__cause__ is failure
    assert (error.intent, error.amount, error.nonce) == ("invoice-7", row.amount, row.nonce)
    assert error.valid_before == row.valid_before
    assert not isinstance(error, httpx.HTTPError)  # so that a retry loop does not swallow it


@pytest.mark.parametrize(
    "failure",
    [httpx.ConnectError("refused"), httpx.ConnectTimeout("slow"), httpx.PoolTimeout("busy")],
    ids=lambda failure: type(failure).__name__,
)
def test_what_never_left_counts_for_nothing(buyer: Buyer, shop: Shop, failure: Exception) -> None:
    def refuse(_: Seen) -> httpx.Response:
        raise failure

    shop.on_paid = refuse
    with pytest.raises(type(failure)) as caught:
        buyer.get(x402={"intent": "invoice-7"})
    assert caught.value is failure
    assert [row.state for row in buyer.payments] == [PaymentState.VOID]
    shop.on_paid = None
    assert buyer.get(x402={"intent": "invoice-7"}).is_success


def test_an_unpaid_failure_is_httpx_own(buyer: Buyer, shop: Shop) -> None:
    def lose(_: Seen) -> httpx.Response:
        raise httpx.ReadTimeout("slow")

    shop.on_unpaid = lose
    with pytest.raises(httpx.ReadTimeout):
        buyer.get()
    assert_nothing_signed(buyer, shop)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_leaves_a_row(shop: Shop, interrupt: type[BaseException]) -> None:
    def stop(_: Seen) -> httpx.Response:
        raise interrupt

    shop.on_paid = stop
    buyer = Buyer("sync", shop)
    with pytest.raises(interrupt):
        buyer.get()
    assert [row.state for row in buyer.payments] == [PaymentState.UNKNOWN]


@pytest.mark.anyio
async def test_a_cancelled_task_leaves_a_row(shop: Shop) -> None:
    """Placed at the paid request: where the money is out and the answer is not in."""
    paying = asyncio.Event()

    class Stuck(Shop):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if self._payment(request.headers) is None:
                return await super().handle_async_request(request)
            paying.set()
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

    buyer = Buyer("async", Stuck(shop.dialect))
    async with httpx.AsyncClient(transport=buyer.async_transport()) as client:
        task = asyncio.create_task(client.get("https://shop.example/x"))
        await paying.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [row.state for row in buyer.payments] == [PaymentState.UNKNOWN]


# Redirects


@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_payment_never_follows_a_redirect_to_another_origin(
    buyer: Buyer, shop: Shop, status: int
) -> None:
    def redirect(_: Seen) -> httpx.Response:
        return shop.respond(status, {"Location": "https://thief.example/free/loot"}, b"")

    shop.on_paid = redirect
    assert buyer.post(follow_redirects=True, json={"a": 1}).text == "free"
    elsewhere = [seen for seen in shop.seen if "thief" in seen.url]
    assert len(elsewhere) == 1
    assert all(seen.payment is None for seen in elsewhere)
    assert [seen.url for seen in shop.paid] == ["https://shop.example/x"]


@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_redirect_after_the_payment_is_not_paid_again(
    buyer: Buyer, shop: Shop, status: int
) -> None:
    def redirect(_: Seen) -> httpx.Response:
        return shop.respond(status, {"Location": "https://thief.example/pay"}, b"")

    shop.on_paid = redirect
    with pytest.raises(IntentConflict, match="a redirect after the payment"):
        buyer.get(follow_redirects=True)
    assert len(shop.paid) == 1


def test_a_redirect_before_the_payment_is_followed_and_paid_once(buyer: Buyer, shop: Shop) -> None:
    def move(seen: Seen) -> httpx.Response:
        if seen.url.endswith("/old"):
            return shop.respond(308, {"Location": "https://shop.example/new"}, b"")
        return shop.challenge()

    shop.on_unpaid = move
    response = buyer.get("https://shop.example/old", follow_redirects=True)
    assert receipt_of(response).url == "https://shop.example/new"
    assert len(shop.paid) == 1


# The nonce is the purchase


def payments_shown(shop: Shop) -> int:
    """How many different payments reached the server, whatever their number."""
    return len({json.dumps(seen.payment) for seen in shop.paid})


def test_the_same_intent_is_not_paid_twice(buyer: Buyer, shop: Shop) -> None:
    receipt = receipt_of(buyer.get(x402={"intent": "invoice-7"}))
    shop.on_paid = lambda _: shop.challenge()
    with pytest.raises(AlreadyPaid, match="does not give the answer again") as caught:
        buyer.get(x402={"intent": "invoice-7"})
    assert caught.value.receipt == receipt
    assert payments_shown(shop) == 1


def test_a_server_that_replays_gives_the_same_intent_its_answer(buyer: Buyer, shop: Shop) -> None:
    first = buyer.get(x402={"intent": "invoice-7"})
    again = buyer.get(x402={"intent": "invoice-7"})
    assert again.json() == first.json()
    assert receipt_of(again) == receipt_of(first)
    assert len(shop.nonces) == len(buyer.payments) == 1


def test_an_intent_cannot_buy_something_else(buyer: Buyer, shop: Shop) -> None:
    buyer.post(json={"service": "telegram"}, x402={"intent": "invoice-7"})
    others: list[Callable[[], httpx.Response]] = [
        lambda: buyer.post(json={"service": "whatsapp"}, x402={"intent": "invoice-7"}),
        lambda: buyer.get(x402={"intent": "invoice-7"}),
        lambda: buyer.post("https://shop.example/x?n=2", x402={"intent": "invoice-7"}),
        lambda: buyer.post("https://shop.example:8443/x", x402={"intent": "invoice-7"}),
    ]
    for other in others:
        with pytest.raises(IntentConflict, match="give each purchase an intent of its own"):
            other()
    assert len(shop.paid) == 1


def test_an_open_payment_is_presented_again_and_not_replaced(buyer: Buyer, shop: Shop) -> None:
    def lose(_: Seen) -> httpx.Response:
        raise httpx.ReadTimeout("slow")

    shop.on_paid = lose
    with pytest.raises(PaymentUnknown):
        buyer.get(x402={"intent": "invoice-7"})
    shop.on_paid = None
    unpaid = len(shop.seen) - len(shop.paid)
    assert receipt_of(buyer.get(x402={"intent": "invoice-7"})).state is PaymentState.SETTLED
    assert len(shop.seen) - len(shop.paid) == unpaid  # no price was asked for again
    assert payments_shown(shop) == 1
    assert [row.presentations for row in buyer.payments] == [2]


def test_an_open_payment_past_its_time_is_signed_anew_under_its_nonce(
    buyer: Buyer, shop: Shop
) -> None:
    now = [1_800_000_000.0]
    buyer.settings["clock"] = lambda: now[0]
    shop.on_paid = lambda _: shop.challenge()
    with pytest.raises(PaymentRefused):
        buyer.get(x402={"intent": "invoice-7"})
    now[0] += 3600
    shop.on_paid = None
    assert buyer.get(x402={"intent": "invoice-7"}).is_success
    assert len(shop.nonces) == 1
    assert len({seen.authorization["validBefore"] for seen in shop.paid}) == 2


def test_a_lost_connection_does_not_void_what_may_have_been_sent_before(
    buyer: Buyer, shop: Shop
) -> None:
    def lose(_: Seen) -> httpx.Response:
        raise httpx.ReadTimeout("slow")

    def refuse(_: Seen) -> httpx.Response:
        raise httpx.ConnectError("refused")

    shop.on_paid = lose
    with pytest.raises(PaymentUnknown):
        buyer.get(x402={"intent": "invoice-7"})
    shop.on_paid = refuse
    with pytest.raises(PaymentUnknown):
        buyer.get(x402={"intent": "invoice-7"})
    assert [row.state for row in buyer.payments] == [PaymentState.UNKNOWN]


def test_calls_without_an_intent_are_purchases_of_their_own(buyer: Buyer, shop: Shop) -> None:
    buyer.get()
    buyer.get()
    assert len(shop.nonces) == 2


def test_two_wallets_or_two_ledgers_never_share_a_nonce_by_accident(shop: Shop) -> None:
    wallet = Wallet.generate()
    for buying in (wallet, wallet, Wallet.generate()):
        Buyer("sync", shop, wallet=buying).get(x402={"intent": "invoice-7"})
    # Two machines with one key and one intent share it on purpose: the contract settles one.
    assert [len({seen.nonce for seen in shop.paid[:2]}), len(shop.nonces)] == [1, 2]


def test_sending_one_request_object_twice_is_one_purchase(shop: Shop) -> None:
    buyer = Buyer("sync", shop)
    with httpx.Client(transport=buyer.sync_transport()) as client:
        request = client.build_request("GET", "https://shop.example/x")
        assert client.send(request).is_success
        assert client.send(request).is_success
    assert payments_shown(shop) == 1


# Setting up


@pytest.mark.parametrize("wallet", ["0x" + "1" * 64, None, object()])
def test_what_cannot_sign_is_refused_at_once(wallet: Any) -> None:
    with pytest.raises(ConfigError, match="cannot sign"):
        X402Transport(wallet)


def test_without_a_ledger_named_the_users_own_is_used_and_closed(shop: Shop) -> None:
    with httpx.Client(transport=X402Transport(Wallet.generate(), transport=shop)) as client:
        assert client.get("https://shop.example/x").is_success
    with SQLiteLedger(default_ledger_path()) as ledger:
        assert len(list(ledger.payments())) == 1
