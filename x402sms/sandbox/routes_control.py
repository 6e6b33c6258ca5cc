"""The test's side of the sandbox, unpaid: see the money, deliver SMS, move the clock."""

from __future__ import annotations

from eth_utils.address import is_address, to_checksum_address
from fastapi import APIRouter

from x402sms.money import parse_usdc
from x402sms.sandbox.models import (
    AdvanceIn,
    AtomicOut,
    ClockOut,
    ControlOrderOut,
    DeliverIn,
    FundIn,
    PaymentOut,
    moment,
)
from x402sms.sandbox.orders import Order
from x402sms.sandbox.paid import PROBLEMS, TheSandbox
from x402sms.sandbox.payments import PaymentRecord
from x402sms.sandbox.problems import validation
from x402sms.sandbox.state import Sandbox
from x402sms.sandbox.views import order_out

router = APIRouter(prefix="/_sandbox", responses=PROBLEMS, tags=["sandbox"])


@router.get("/payments")
async def list_payments(sandbox: TheSandbox) -> list[PaymentOut]:
    """Every settled payment, oldest first."""
    return [payment_out(record) for record in sandbox.records]


@router.get("/balances/{address}")
async def get_balance(address: str, sandbox: TheSandbox) -> AtomicOut:
    return await balance_out(sandbox, _address(address))


@router.post("/fund")
async def fund(wanted: FundIn, sandbox: TheSandbox) -> AtomicOut:
    """`amount` is in USDC and comes on top of what the address has."""
    address = _address(wanted.address)
    try:
        await sandbox.settlement.fund(address, parse_usdc(wanted.amount))
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
    sandbox.orders.deliver(order, sms.text, sms.sender, sms.code)
    return _order_out(sandbox, order)


@router.get("/clock")
async def read_clock(sandbox: TheSandbox) -> ClockOut:
    return _clock_out(sandbox)


@router.post("/clock/advance")
async def advance_clock(wanted: AdvanceIn, sandbox: TheSandbox) -> ClockOut:
    """Orders age by `seconds`; with `chain`, so do the time windows of payments."""
    advance(sandbox, wanted.seconds, chain=wanted.chain)
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
    return AtomicOut(amount_atomic=str(await sandbox.settlement.balance(address)))


def advance(sandbox: Sandbox, seconds: float, *, chain: bool) -> None:
    if chain:
        sandbox.chain_clock.advance(seconds)
    sandbox.clock.advance(seconds)


def _clock_out(sandbox: Sandbox) -> ClockOut:
    return ClockOut(now=int(sandbox.clock.now()), chain_now=int(sandbox.chain_clock.now()))


def _order_out(sandbox: Sandbox, order: Order) -> ControlOrderOut:
    shown = order_out(order, sandbox.orders.cooldown)
    return ControlOrderOut(**shown.model_dump(), owner=order.owner)


def _address(text: str) -> str:
    if not is_address(text):
        raise validation("address: not an Ethereum address")
    return to_checksum_address(text)
