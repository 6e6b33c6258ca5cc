"""The account of an x402 caller is its wallet: what it holds, paid and got back."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Query

from x402sms.money import format_usdc
from x402sms.sandbox.gate import Buyer
from x402sms.sandbox.models import (
    BalanceOut,
    PageOut,
    ProfileOut,
    StatsOut,
    TransactionOut,
    moment,
)
from x402sms.sandbox.orders import ACTIVE
from x402sms.sandbox.paid import RESPONSES, PaidRoute, TheBuyer, TheSandbox
from x402sms.sandbox.payments import PaymentRecord
from x402sms.sandbox.state import Sandbox

Item = TypeVar("Item")
PageNumber = Annotated[int, Query(ge=1, le=10**6)]
PageSize = Annotated[int, Query(ge=1, le=100)]

router = APIRouter(route_class=PaidRoute, responses=RESPONSES, tags=["account"])


@router.get("/me")
async def profile(sandbox: TheSandbox, buyer: TheBuyer) -> ProfileOut:
    balance = await _balance_after(sandbox, buyer)
    return ProfileOut(email=None, balance=balance, plan="x402", wallet=buyer.wallet)


@router.get("/me/balance")
async def balance(sandbox: TheSandbox, buyer: TheBuyer) -> BalanceOut:
    return BalanceOut(balance=await _balance_after(sandbox, buyer), currency="USDC")


@router.get("/me/stats")
async def stats(sandbox: TheSandbox, buyer: TheBuyer) -> StatsOut:
    """Of what was settled before this call."""
    orders = sandbox.orders.of(buyer.wallet)
    paid = _paid_by(sandbox, buyer)
    return StatsOut(
        lifetime_orders=len(orders),
        lifetime_spend=format_usdc(sum(record.amount_atomic for record in paid)),
        lifetime_refunds=format_usdc(sum(record.refunded_atomic for record in paid)),
        active_orders=sum(order.status in ACTIVE for order in orders),
        sms_received=sum(len(order.messages) for order in orders),
    )


@router.get("/me/transactions")
async def transactions(
    sandbox: TheSandbox, buyer: TheBuyer, page: PageNumber = 1, per_page: PageSize = 20
) -> PageOut[TransactionOut]:
    """Newest first; a refund stands right before the payment it gives back."""
    rows: list[TransactionOut] = []
    for record in reversed(_paid_by(sandbox, buyer)):
        if record.refunded_atomic:
            rows.append(_row(record, "refund", record.refunded_atomic))
        rows.append(_row(record, "payment", record.amount_atomic))
    return page_of(rows, page, per_page)


def page_of(items: list[Item], page: int, per_page: int) -> PageOut[Item]:
    start = (page - 1) * per_page
    data = items[start : start + per_page]
    return PageOut(data=data, page=page, per_page=per_page, total=len(items))


def _paid_by(sandbox: Sandbox, buyer: Buyer) -> list[PaymentRecord]:
    return [record for record in sandbox.records if record.payer == buyer.wallet]


async def _balance_after(sandbox: Sandbox, buyer: Buyer) -> str:
    """What the wallet holds once this very call has settled, which comes last."""
    held = await sandbox.settlement.balance(buyer.wallet)
    return format_usdc(held - buyer.price_atomic)


def _row(
    record: PaymentRecord, kind: Literal["payment", "refund"], amount_atomic: int
) -> TransactionOut:
    return TransactionOut(
        id=f"{kind}_{record.transaction[2:18]}",
        type=kind,
        amount=format_usdc(amount_atomic),
        currency="USDC",
        created_at=moment(record.settled_at),
        order_id=record.order_id,
        method=record.method,
        path=record.path,
        transaction=record.transaction,
    )
