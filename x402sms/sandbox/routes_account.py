"""The caller's account: what it holds, paid and got back. Without a key, that is its wallet."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from fastapi import APIRouter, Query

from x402sms.money import format_usdc
from x402sms.sandbox.accounts import Entry
from x402sms.sandbox.buyer import Buyer
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
    if buyer.account is not None:
        email = f"{buyer.account.account_id}@sandbox.invalid"
        return ProfileOut(email=email, balance=balance, plan="prepaid", wallet=None)
    return ProfileOut(email=None, balance=balance, plan="x402", wallet=buyer.caller)


@router.get("/me/balance")
async def balance(sandbox: TheSandbox, buyer: TheBuyer) -> BalanceOut:
    currency: Literal["USD", "USDC"] = "USDC" if buyer.account is None else "USD"
    return BalanceOut(balance=await _balance_after(sandbox, buyer), currency=currency)


@router.get("/me/stats")
async def stats(sandbox: TheSandbox, buyer: TheBuyer) -> StatsOut:
    """Of what was settled before this call."""
    orders = sandbox.orders.of(buyer.caller)
    spent, refunded = sandbox.books(buyer.caller)
    return StatsOut(
        lifetime_orders=len(orders),
        lifetime_spend=format_usdc(spent),
        lifetime_refunds=format_usdc(refunded),
        active_orders=sum(order.status in ACTIVE for order in orders),
        sms_received=sum(len(order.messages) for order in orders),
    )


@router.get("/me/transactions")
async def transactions(
    sandbox: TheSandbox, buyer: TheBuyer, page: PageNumber = 1, per_page: PageSize = 20
) -> PageOut[TransactionOut]:
    """Newest first; a wallet's refund stands right before the payment it gives back."""
    if buyer.account is None:
        rows = _rows_of_wallet(sandbox, buyer.caller)
    else:
        rows = [_entry_row(entry) for entry in reversed(buyer.account.entries)]
    return page_of(rows, page, per_page)


def page_of(items: list[Item], page: int, per_page: int) -> PageOut[Item]:
    start = (page - 1) * per_page
    data = items[start : start + per_page]
    return PageOut(data=data, page=page, per_page=per_page, total=len(items))


async def _balance_after(sandbox: Sandbox, buyer: Buyer) -> str:
    """What the caller holds once this very call has settled, which comes last."""
    held = await sandbox.balance(buyer.caller)
    return format_usdc(held - buyer.price_atomic)


def _rows_of_wallet(sandbox: Sandbox, wallet: str) -> list[TransactionOut]:
    rows: list[TransactionOut] = []
    for record in reversed([record for record in sandbox.records if record.payer == wallet]):
        if record.refunded_atomic:
            rows.append(_row(record, "refund", record.refunded_atomic))
        rows.append(_row(record, "payment", record.amount_atomic))
    return rows


def _entry_row(entry: Entry) -> TransactionOut:
    return TransactionOut(
        id=entry.entry_id,
        type=entry.kind,
        amount=format_usdc(entry.amount_atomic),
        currency="USD",
        created_at=moment(entry.at),
        order_id=entry.order_id,
        method=entry.method,
        path=entry.path,
        transaction=None,
    )


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
