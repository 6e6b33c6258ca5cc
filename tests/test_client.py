"""The facade against the sandbox, over real HTTP: {sync, async} x {v1, v2, header}."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from eth_account import Account

from tests.buyer import COLOURS, Colour
from tests.facade import facade
from tests.shop import DIALECTS, Shop, Stream
from x402sms import Client, PaymentState, Wallet
from x402sms.errors import (
    APIError,
    ConfigError,
    CountryNotFound,
    HostNotReachable,
    HostNotServing,
    NoCodeReceived,
    NoStock,
    OrderAlreadyConfirmed,
    OrderExpired,
    OrderNotFound,
    PaymentRefused,
    ServiceNotFound,
    SpendLimitExceeded,
    UnreadableResponse,
    ValidationFailed,
)
from x402sms.money import parse_usdc
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox
from x402sms.virtualsms.effects import Bought, Cancelled, Chosen, Confirmed, Received, Waiting
from x402sms.virtualsms.models import OrderStatus

FUNDED = Decimal(100)


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    colour: Colour = request.param
    return colour


@pytest.fixture(scope="module", params=DIALECTS)
def sandbox(request: pytest.FixtureRequest) -> Iterator[RunningSandbox]:
    with running_sandbox(SandboxConfig(dialect=request.param)) as running:
        yield running


@pytest.fixture
def wallet(sandbox: RunningSandbox) -> Wallet:
    """A wallet of this test's own, with 100 USDC."""
    wallet = Wallet.generate()
    sandbox.fund(wallet.address, FUNDED)
    return wallet


@pytest.fixture
def sms(colour: Colour, sandbox: RunningSandbox, wallet: Wallet) -> Iterator[Any]:
    with facade(colour, **settings(sandbox, wallet)) as client:
        yield client


def settings(sandbox: RunningSandbox, wallet: Wallet) -> dict[str, Any]:
    return {
        "wallet": wallet,
        "network": "base-sepolia",
        "base_url": sandbox.url,
        "ledger": ":memory:",
    }


def paid_for(sandbox: RunningSandbox, wallet: Wallet) -> dict[str, int]:
    """What the sandbox's own ledger says this wallet paid: nonce -> atomic amount."""
    return {
        payment["nonce"]: int(payment["amount_atomic"])
        for payment in sandbox.payments()
        if payment["payer"] == wallet.address
    }


def buy(sms: Any, **options: Any) -> Any:
    return sms.orders.create("telegram", sms.services.cheapest("telegram").country, **options)


# Every endpoint of the reference


def test_services(sms: Any) -> None:
    services = sms.services.list()
    assert len(services) == 2500
    assert {"telegram", "whatsapp"} <= {service.id for service in services}
    assert "telegram" in [service.id for service in sms.services.search("TELEG")]


def test_countries(sms: Any) -> None:
    countries = sms.countries.list()
    assert len(countries) == 145
    assert ("GB", "United Kingdom") in [(country.iso2, country.name) for country in countries]


def test_offers(sms: Any) -> None:
    cheapest = sms.services.cheapest("telegram")
    offers = sms.services.availability("telegram")
    assert cheapest.price == min(offer.price for offer in offers if offer.in_stock)
    [same] = [offer for offer in offers if offer.country == cheapest.country]
    assert same.price == cheapest.price
    there = sms.countries.pricing(cheapest.country.lower())
    assert cheapest.price in [offer.price for offer in there if offer.service == "telegram"]


def test_account(sms: Any) -> None:
    order = buy(sms)
    assert sms.account.profile().plan == "x402"
    assert sms.account.balance().currency == "USDC"
    stats = sms.account.stats()
    assert (stats.lifetime_orders, stats.lifetime_spend >= order.price) == (1, True)
    assert order.order_id in [row.order_id for row in sms.account.transactions()]


def test_an_order_from_purchase_to_confirmation(sms: Any, sandbox: RunningSandbox) -> None:
    order = buy(sms, max_price="1.00")
    assert order.phone_number.startswith("+")
    assert not order.has_sms
    sandbox.deliver_sms(order.order_id, "G-482913 is your verification code")
    received = sms.orders.wait_for_sms(order.order_id, timeout=30)
    assert (received.code, received.text) == ("482913", "G-482913 is your verification code")
    assert sms.orders.get(order.order_id).has_sms
    assert sms.orders.confirm(order.order_id).status is OrderStatus.CONFIRMED
    assert [listed.order_id for listed in sms.orders.list()] == [order.order_id]


def test_a_swap_and_a_cancel(sms: Any, sandbox: RunningSandbox, wallet: Wallet) -> None:
    order = buy(sms)
    swapped = sms.orders.swap(order.order_id)
    assert swapped.order_id == order.order_id
    assert swapped.phone_number != order.phone_number
    before = sandbox.balance(wallet.address)
    cancelled = sms.orders.cancel(order.order_id)
    assert (cancelled.success, cancelled.refund_amount) == (True, order.price)
    refund = parse_usdc(order.price) - parse_usdc("0.001")
    assert sandbox.balance(wallet.address) == before + refund


def test_a_rental(sms: Any) -> None:
    order = buy(sms, rental_hours=4)
    longer = sms.orders.extend(order.order_id, 2, max_price="5")
    assert longer.rental_until > order.rental_until
    assert sms.orders.release(order.order_id).is_final


def test_looking_for_an_sms_that_is_not_there(sms: Any) -> None:
    order = buy(sms)
    result = sms.orders.wait_for_sms(order.order_id, timeout=0)
    assert (result.has_sms, result.code) == (False, None)


def test_lists_go_on_over_pages_and_pay_for_each(
    sms: Any, sandbox: RunningSandbox, wallet: Wallet
) -> None:
    bought = {buy(sms).order_id for _ in range(51)}
    before = len(paid_for(sandbox, wallet))
    listed = [order.order_id for order in sms.orders.list()]
    assert len(listed) == 51
    assert set(listed) == bought
    assert len(paid_for(sandbox, wallet)) == before + 2


# Money


def test_the_receipts_equal_the_sandboxs_own_ledger(
    sms: Any, sandbox: RunningSandbox, wallet: Wallet
) -> None:
    with sms.meter() as meter:
        order = buy(sms)
        sms.orders.cancel(order.order_id)
    receipts = {receipt.nonce: parse_usdc(receipt.amount) for receipt in meter.receipts}
    assert receipts == paid_for(sandbox, wallet)
    assert meter.total == sms.payments.spent() == sum(r.amount for r in meter.receipts)
    assert sms.last_receipt == meter.receipts[-1]
    assert [payment.nonce for payment in sms.payments.list()] == [*receipts][::-1]
    assert sms.payments.get(meter.receipts[0].nonce).state is PaymentState.SETTLED
    assert sms.payments.get("never used") is None
    funded = parse_usdc(FUNDED)
    spent = sum(receipts.values()) - parse_usdc(order.price)
    assert sandbox.balance(wallet.address) == funded - spent


def test_a_price_above_the_ceiling_is_not_signed(
    sms: Any, sandbox: RunningSandbox, wallet: Wallet
) -> None:
    offer = sms.services.cheapest("telegram")
    before = paid_for(sandbox, wallet)
    with pytest.raises(SpendLimitExceeded, match="max_amount"):
        sms.orders.create("telegram", offer.country, max_price="0.01")
    assert paid_for(sandbox, wallet) == before
    assert len(sms.payments.list()) == len(before)


def test_an_intent_given_is_the_intent_of_the_payment(sms: Any) -> None:
    buy(sms, intent="sign-up test 7")
    assert sms.payments.get("sign-up test 7").method == "POST"


def test_an_empty_wallet_is_told_so(colour: Colour, sandbox: RunningSandbox) -> None:
    wallet = Wallet.generate()
    with (
        facade(colour, **settings(sandbox, wallet)) as sms,
        pytest.raises(PaymentRefused, match="send USDC to it"),
    ):
        sms.account.balance()
    assert paid_for(sandbox, wallet) == {}


def test_a_signer_whose_address_is_written_otherwise_sees_its_payments(
    colour: Colour, sandbox: RunningSandbox
) -> None:
    account = Account.create()

    class LowerCase:
        address = account.address.lower()

        def sign_typed_data(self, *parts: Any) -> Any:
            return account.sign_typed_data(*parts)

    sandbox.fund(account.address, FUNDED)
    options = settings(sandbox, Wallet.generate()) | {"wallet": LowerCase()}
    with facade(colour, **options) as sms, sms.meter() as meter:
        sms.account.balance()
        assert sms.payments.spent() == meter.total == Decimal("0.001")
        assert len(sms.payments.list()) == 1


def test_a_replayed_purchase_is_metered_once(sms: Any) -> None:
    offer = sms.services.cheapest("telegram")
    buying = ("telegram", offer.country)
    order = sms.orders.create(*buying, intent="sign-up 7")
    with sms.meter() as meter:
        assert sms.orders.create(*buying, intent="sign-up 7").order_id == order.order_id
    assert (meter.total, sms.last_receipt.intent) == (0, "sign-up 7")


# Errors, each from the sandbox itself


ERRORS: dict[str, tuple[Callable[[Any, Any], Any], type[APIError]]] = {
    "an unknown service": (lambda sms, _: sms.services.cheapest("telegrm"), ServiceNotFound),
    "an unknown country": (lambda sms, _: sms.countries.pricing("XX"), CountryNotFound),
    "a service that cannot be bought": (
        lambda sms, _: sms.orders.create("telegrm", "GB"),
        ServiceNotFound,
    ),
    "a country that cannot be bought in": (
        lambda sms, _: sms.orders.create("telegram", "XX"),
        CountryNotFound,
    ),
    "an unknown order": (lambda sms, _: sms.orders.get("ord_0"), OrderNotFound),
    "a swap of a confirmed order": (
        lambda sms, order: sms.orders.swap(order.order_id),
        OrderAlreadyConfirmed,
    ),
    "a cancel of a confirmed order": (
        lambda sms, order: sms.orders.cancel(order.order_id),
        OrderAlreadyConfirmed,
    ),
    "an odd rental": (
        lambda sms, order: sms.orders.create("telegram", order.country, rental_hours=5),
        ValidationFailed,
    ),
}


@pytest.mark.parametrize(("call", "error"), ERRORS.values(), ids=ERRORS)
def test_a_refusal_raises_its_error_and_costs_nothing(
    sms: Any,
    sandbox: RunningSandbox,
    wallet: Wallet,
    call: Callable[[Any, Any], Any],
    error: type[APIError],
) -> None:
    order = buy(sms)
    sandbox.deliver_sms(order.order_id, "Your code is 5521")
    sms.orders.confirm(order.order_id)
    before = paid_for(sandbox, wallet)
    with pytest.raises(error) as caught:
        call(sms, order)
    assert paid_for(sandbox, wallet) == before
    assert caught.value.request_id
    assert caught.value.response is not None
    if caught.value.receipt is not None:
        assert caught.value.receipt.state is PaymentState.REFUSED


def test_an_order_of_another_wallet_is_not_found(
    colour: Colour, sms: Any, sandbox: RunningSandbox
) -> None:
    order = buy(sms)
    stranger = Wallet.generate()
    sandbox.fund(stranger.address, FUNDED)
    with (
        facade(colour, **settings(sandbox, stranger)) as theirs,
        pytest.raises(OrderNotFound),
    ):
        theirs.orders.get(order.order_id)


def test_an_expired_order_cannot_be_cancelled(
    colour: Colour, sandbox: RunningSandbox, wallet: Wallet
) -> None:
    with facade(colour, **settings(sandbox, wallet)) as sms:
        order = buy(sms)
        sandbox.advance(1201)
        with pytest.raises(OrderExpired):
            sms.orders.cancel(order.order_id)


@pytest.mark.parametrize("order_id", ["", "../me", "a/b", "a?b", "a%2fb"])
def test_an_order_id_that_would_change_the_path_is_refused(sms: Any, order_id: str) -> None:
    with pytest.raises(ValueError, match="order id"):
        sms.orders.get(order_id)
    assert sms.payments.list() == []


# The job


def test_the_job_buys_waits_and_confirms(sms: Any, sandbox: RunningSandbox, wallet: Wallet) -> None:
    events: list[Any] = []
    numbers: list[str] = []

    def watch(event: Any) -> None:
        events.append(event)
        if isinstance(event, Bought):
            sandbox.deliver_sms(event.order.order_id, "Your code is 730114")

    code = sms.receive_code("telegram", max_price="1", on_number=numbers.append, on_event=watch)
    assert (code.code, code.text, code.warnings) == ("730114", "Your code is 730114", ())
    assert numbers == [code.order.phone_number]
    assert [type(event) for event in events] == [Chosen, Bought, Waiting, Received, Confirmed]
    assert sms.orders.get(code.order.order_id).is_final
    assert len(paid_for(sandbox, wallet)) == 5  # cheapest, order, one poll, confirm; and the look


def test_the_job_in_one_country(sms: Any, sandbox: RunningSandbox) -> None:
    offer = next(o for o in sms.services.availability("telegram") if o.in_stock)

    def watch(event: Any) -> None:
        if isinstance(event, Bought):
            sandbox.deliver_sms(event.order.order_id, "Your code is 730114")

    code = sms.receive_code("telegram", max_price="5", country=offer.country, on_event=watch)
    assert (code.order.country, code.price) == (offer.country, offer.price)


def test_a_job_without_an_sms_gets_its_money_back(
    sms: Any, sandbox: RunningSandbox, wallet: Wallet
) -> None:
    events: list[Any] = []
    with pytest.raises(NoCodeReceived, match="refunded") as caught:
        sms.receive_code("telegram", max_price="1", timeout=1, on_event=events.append)
    assert caught.value.cancelled is True
    bought = next(event for event in events if isinstance(event, Bought))
    assert Cancelled(bought.order.order_id, bought.order.price) in events
    assert bought.order.price is not None
    spent = sum(paid_for(sandbox, wallet).values()) - parse_usdc(bought.order.price)
    assert sandbox.balance(wallet.address) == parse_usdc(FUNDED) - spent


def test_a_job_that_is_interrupted_cancels_its_order(sms: Any) -> None:
    def interrupt(event: Any) -> None:
        if isinstance(event, Waiting):
            raise RuntimeError("the caller's own fault")

    with pytest.raises(RuntimeError, match="own fault"):
        sms.receive_code("telegram", max_price="1", on_event=interrupt)
    [order] = sms.orders.list()
    assert order.status is OrderStatus.CANCELLED


def test_a_job_under_its_price_buys_nothing(sms: Any) -> None:
    with pytest.raises(SpendLimitExceeded, match="raise it with max_price") as caught:
        sms.receive_code("telegram", max_price="0.01")
    assert caught.value.limit == "max_price"
    assert sms.orders.list() == []


def test_a_job_where_there_is_no_stock_buys_nothing(sms: Any) -> None:
    empty = next(o for o in sms.services.availability("telegram") if not o.in_stock)
    with pytest.raises(NoStock, match="try another country"):
        sms.receive_code("telegram", max_price="5", country=empty.country)


# Where the service is not


def test_a_host_that_is_not_there(colour: Colour) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with (
        facade(
            colour,
            wallet=Wallet.generate(),
            base_url=f"http://127.0.0.1:{port}/api/v2",
            ledger=":memory:",
        ) as sms,
        pytest.raises(HostNotReachable, match="Nothing was paid") as caught,
    ):
        sms.services.list()
    assert caught.value.host == "127.0.0.1"


class _NotFound(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # http.server's own name
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        pass


def test_a_host_that_answers_404_to_everything(colour: Colour) -> None:
    with HTTPServer(("127.0.0.1", 0), _NotFound) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api/v2"
        with (
            facade(colour, wallet=Wallet.generate(), base_url=url, ledger=":memory:") as sms,
            pytest.raises(HostNotServing, match="answers 404") as caught,
        ):
            sms.services.list()
        server.shutdown()
    assert "X402SMS_BASE_URL" in str(caught.value)


class _Cut(Stream):
    """A body that breaks off."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"{"
        raise httpx.ReadError("cut")


def test_a_paid_answer_that_is_cut_short_says_what_was_paid(colour: Colour) -> None:
    shop = Shop("v2")

    def cut(_: Any) -> httpx.Response:
        whole = shop.settled()
        return httpx.Response(200, headers=whole.headers, stream=_Cut([]))

    shop.on_paid = cut
    wallet = Wallet.generate()
    with (
        facade(
            colour,
            wallet=wallet,
            base_url="https://shop.example",
            ledger=":memory:",
            transport=shop,
        ) as sms,
        pytest.raises(UnreadableResponse, match="cut short") as caught,
    ):
        sms.orders.create("telegram", "GB")
    assert caught.value.receipt is not None
    assert caught.value.receipt.nonce in str(caught.value)


def test_an_unpaid_answer_that_is_cut_short_is_said_to_be_unpaid() -> None:
    shop = Shop("v2")
    shop.on_unpaid = lambda _: httpx.Response(200, stream=_Cut([]))
    with (
        Client(
            Wallet.generate(), base_url="https://shop.example", ledger=":memory:", transport=shop
        ) as sms,
        pytest.raises(UnreadableResponse, match="cut short") as caught,
    ):
        sms.services.list()
    assert caught.value.receipt is None


# Settings


def test_without_a_wallet_it_says_how_to_get_one() -> None:
    with pytest.raises(ConfigError, match="x402sms wallet new"):
        Client()


def test_the_environment_configures_it(monkeypatch: pytest.MonkeyPatch) -> None:
    wallet_key = "0x" + "11" * 32
    for name, value in {
        "PRIVATE_KEY": wallet_key,
        "NETWORK": "base-sepolia",
        "LEDGER": "here.db",
        "MAX_PER_CALL": "0.25",
        "MAX_PER_DAY": "none",
    }.items():
        monkeypatch.setenv(f"X402SMS_{name}", value)
    with Client() as sms:
        assert sms.wallet.address == Wallet.from_key(wallet_key).address
        assert sms.settings.base_url == "https://x402-test.virtualsms.io/api/v2"
        assert (sms.settings.limits.per_call, sms.settings.limits.per_day) == ("0.25", None)
