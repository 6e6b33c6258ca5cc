"""The test's side of the sandbox, unpaid: see the money, deliver SMS, move the clock."""

from __future__ import annotations

from dataclasses import asdict

from eth_utils.address import is_address, to_checksum_address
from fastapi import APIRouter

from x402sms.errors import ConfigError
from x402sms.money import parse_usdc
from x402sms.sandbox.faults import Fault
from x402sms.sandbox.models import (
    AdvanceIn,
    AtomicOut,
    BooksOut,
    ClockOut,
    ControlOrderOut,
    DeliverIn,
    DeliveryOut,
    FaultModel,
    FaultsOut,
    FundIn,
    PaymentOut,
    PriceIn,
    StockIn,
    WebhookOut,
    moment,
)
from x402sms.sandbox.orders import Order
from x402sms.sandbox.paid import PROBLEMS, TheSandbox
from x402sms.sandbox.payments import PaymentRecord
from x402sms.sandbox.problems import validation
from x402sms.sandbox.routes_discovery import find_country, find_service
from x402sms.sandbox.state import Sandbox
from x402sms.sandbox.views import order_out
from x402sms.sandbox.webhooks import Delivery, Event

router = APIRouter(prefix="/_sandbox", responses=PROBLEMS, tags=["sandbox"])


@router.get("/payments")
async def list_payments(sandbox: TheSandbox) -> list[PaymentOut]:
    """Every settled payment, oldest first."""
    return [payment_out(record) for record in sandbox.records]


@router.get("/balances/{address}")
async def get_balance(address: str, sandbox: TheSandbox) -> AtomicOut:
    return await balance_out(sandbox, _payer(sandbox, address))


@router.post("/fund")
async def fund(wanted: FundIn, sandbox: TheSandbox) -> AtomicOut:
    """`amount` is in USDC and comes on top of what the address has."""
    address = _payer(sandbox, wanted.address)
    try:
        await sandbox.fund(address, parse_usdc(wanted.amount))
    except ValueError as error:
        raise validation(str(error)) from error
    return await balance_out(sandbox, address)


@router.get("/orders")
async def list_orders(sandbox: TheSandbox) -> list[ControlOrderOut]:
    """Everyone's orders, newest first."""
    return [_order_out(sandbox, order) for order in sandbox.orders.all()]


@router.post("/orders/{order_id}/sms")
async def deliver_sms(order_id: str, sms: DeliverIn, sandbox: TheSandbox) -> ControlOrderOut:
    order = sandbox.orders.find(order_id)
    sandbox.orders.deliver(order, sms.text, sms.sender, sms.code, to_previous=sms.to_previous)
    return _order_out(sandbox, order)


@router.get("/books/{address}")
async def read_books(address: str, sandbox: TheSandbox) -> BooksOut:
    """What a wallet or an account paid in all, and what of it was paid back."""
    paid, refunded = sandbox.books(_payer(sandbox, address))
    return BooksOut(paid_atomic=str(paid), refunded_atomic=str(refunded))


@router.put("/stock")
async def set_stock(wanted: StockIn, sandbox: TheSandbox) -> StockIn:
    """How many numbers of a service are left in a country from now on."""
    service, country = find_service(sandbox, wanted.service), find_country(sandbox, wanted.country)
    sandbox.catalogue.set_stock(service, country, wanted.stock)
    return wanted


@router.put("/price")
async def set_price(wanted: PriceIn, sandbox: TheSandbox) -> PriceIn:
    """What a number of a service costs in a country from now on, in USDC."""
    service, country = find_service(sandbox, wanted.service), find_country(sandbox, wanted.country)
    try:
        sandbox.catalogue.set_price(service, country, parse_usdc(wanted.price))
    except ValueError as error:
        raise validation(str(error)) from error
    return wanted


@router.get("/faults")
async def list_faults(sandbox: TheSandbox) -> FaultsOut:
    return _faults_out(sandbox)


@router.put("/faults")
async def set_faults(wanted: list[FaultModel], sandbox: TheSandbox) -> FaultsOut:
    """These in the place of all others; the chance begins anew."""
    try:
        sandbox.schedule.set(tuple(Fault(**fault.model_dump()) for fault in wanted))
    except ConfigError as error:
        raise validation(str(error)) from error
    return _faults_out(sandbox)


@router.delete("/faults")
async def clear_faults(sandbox: TheSandbox) -> FaultsOut:
    sandbox.schedule.set(())
    return _faults_out(sandbox)


@router.get("/webhooks")
async def list_webhooks(sandbox: TheSandbox) -> list[WebhookOut]:
    """What has happened, oldest first."""
    sandbox.orders.catch_up()
    made = sandbox.webhooks
    return [_webhook_out(event, made.deliveries) for event in made.events]


@router.get("/clock")
async def read_clock(sandbox: TheSandbox) -> ClockOut:
    return _clock_out(sandbox)


@router.post("/clock/advance")
async def advance_clock(wanted: AdvanceIn, sandbox: TheSandbox) -> ClockOut:
    """Orders age by `seconds`; with `chain`, so do the time windows of payments."""
    try:
        advance(sandbox, wanted.seconds, chain=wanted.chain)
    except ValueError as error:
        raise validation(str(error)) from error
    return _clock_out(sandbox)


def payment_out(record: PaymentRecord) -> PaymentOut:
    return PaymentOut(
        payer=record.payer,
        pay_to=record.pay_to,
        amount_atomic=str(record.amount_atomic),
        nonce=record.nonce,
        transaction=record.transaction,
        method=record.method,
        path=record.path,
        order_id=record.order_id,
        settled_at=moment(record.settled_at),
        refunded_atomic=str(record.refunded_atomic),
    )


async def balance_out(sandbox: Sandbox, address: str) -> AtomicOut:
    return AtomicOut(amount_atomic=str(await sandbox.balance(address)))


def advance(sandbox: Sandbox, seconds: float, *, chain: bool) -> None:
    if chain:
        sandbox.chain_clock.advance(seconds)
    sandbox.clock.advance(seconds)
    sandbox.orders.catch_up()


def _webhook_out(event: Event, deliveries: list[Delivery]) -> WebhookOut:
    return WebhookOut(
        id=event.event_id,
        type=event.kind,
        account_id=event.account_id,
        created_at=moment(event.at),
        body=event.body.decode(),
        deliveries=[
            DeliveryOut(headers=delivery.webhook().headers, attempts=delivery.attempts)
            for delivery in deliveries
            if delivery.event is event
        ],
    )


def _faults_out(sandbox: Sandbox) -> FaultsOut:
    schedule = sandbox.schedule
    faults = [FaultModel(**asdict(fault)) for fault in schedule.faults]
    return FaultsOut(faults=faults, struck=dict(schedule.struck))


def _clock_out(sandbox: Sandbox) -> ClockOut:
    return ClockOut(now=int(sandbox.clock.now()), chain_now=int(sandbox.chain_clock.now()))


def _order_out(sandbox: Sandbox, order: Order) -> ControlOrderOut:
    shown = order_out(order, sandbox.orders.cooldown)
    return ControlOrderOut(**shown.model_dump(), owner=order.owner)


def _payer(sandbox: Sandbox, text: str) -> str:
    if sandbox.accounts.of_id(text) is not None:
        return text
    if not is_address(text):
        raise validation("address: neither an Ethereum address nor an account")
    return to_checksum_address(text)
