"""`spending`: what was spent, what the limits leave, what is still open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import urlsplit

from anyio import to_thread

from x402sms.account_books import AccountBooks
from x402sms.client import AsyncClient
from x402sms.ledger import Charge, Payment
from x402sms.limits import SpendLimits
from x402sms.mcp_server import inputs, results
from x402sms.mcp_server.desk import Job
from x402sms.mcp_server.request import Request
from x402sms.money import parse_usdc, to_usdc
from x402sms.protocol.labels import labels_of
from x402sms.protocol.types import PaymentState

DAY = 86_400  # seconds
MOST_SHOWN = 20

_OPEN = (PaymentState.UNKNOWN, PaymentState.REFUSED, PaymentState.RESERVED)


@dataclass(frozen=True)
class _Books:
    """What the ledger says of whoever pays: a wallet, or an account. `spent` gives USDC."""

    wallet: str | None
    balance: Decimal | None
    open: list[results.OpenPayment]
    # since when, in Unix seconds, by which worker or any (None)
    spent: Callable[[int, str | None], Awaitable[Decimal]]


async def spending(request: Request, given: inputs.Nothing) -> results.Spending:
    sms, now = request.sms, int(request.sms.clock.time())
    books = await (_of_wallet(sms) if sms.books is None else _of_account(sms, sms.books))
    limits = sms.settings.limits
    rolling = [
        _limit(budget.name, to_usdc(budget.cap_atomic), await books.spent(since, worker))
        for budget in limits.budgets
        if budget.pay_to is None
        for since in [0 if budget.seconds is None else now - budget.seconds]
        for worker in [sms.settings.worker if budget.of_worker else None]
    ]
    return results.Spending(
        transport="x402" if sms.books is None else "rest",
        network=sms.settings.network.name,
        wallet=books.wallet,
        balance=books.balance,
        this_session=results.Spent(
            amount=request.session.total, calls=len(request.session.receipts)
        ),
        last_24_hours=await books.spent(now - DAY, None),
        in_all=await books.spent(0, None),
        limits=[_per_call(limits), *rolling],
        open_payments=books.open[:MOST_SHOWN],
        open_payments_in_all=len(books.open),
        open_jobs=[_open_job(job) for job in request.desk.open],
    )


async def _of_wallet(sms: AsyncClient) -> _Books:
    opened = [payment for state in _OPEN for payment in await sms.payments.list(state=state)]
    return _Books(
        wallet=sms.wallet.address,
        balance=None,
        open=[_open_payment(payment) for payment in opened],
        spent=lambda since, worker: sms.payments.spent(since=since, worker=worker),
    )


async def _of_account(sms: AsyncClient, books: AccountBooks) -> _Books:
    async def spent(since: int, worker: str | None) -> Decimal:
        account, charges = books.key.account, sms.ledger.charges
        return to_usdc(
            await to_thread.run_sync(
                lambda: charges.charged_atomic(account, since=since, worker=worker)
            )
        )

    known = await to_thread.run_sync(books.charges)
    own = [each for each in known if each.account == books.key.account]
    return _Books(
        wallet=None,
        balance=(await sms.account.balance()).balance,
        open=[_open_charge(each) for each in own if each.state in _OPEN],
        spent=spent,
    )


def _per_call(limits: SpendLimits) -> results.Limit:
    cap = None if limits.per_call is None else to_usdc(parse_usdc(limits.per_call))
    return results.Limit(name="per_call", limit=cap, spent=None, left=cap)


def _limit(name: str, cap: Decimal, spent: Decimal) -> results.Limit:
    return results.Limit(name=name, limit=cap, spent=spent, left=max(Decimal(0), cap - spent))


def _open_payment(payment: Payment) -> results.OpenPayment:
    return results.OpenPayment(
        intent=payment.intent,
        amount=payment.amount,
        nonce=payment.nonce,
        state=str(payment.state),
        call=f"{payment.method} {urlsplit(payment.url).path}",
        brought=payment.delivered,
        worker=payment.worker or None,
        labels=labels_of(payment.labels),
        settleable_until=datetime.fromtimestamp(payment.settleable_until, UTC),
    )


def _open_charge(charge: Charge) -> results.OpenPayment:
    return results.OpenPayment(
        intent=charge.intent,
        amount=to_usdc(charge.amount_atomic),
        nonce=None,
        state=str(charge.state),
        call=f"POST {urlsplit(charge.url).path}",
        brought=charge.order_id,
        worker=charge.worker or None,
        labels=labels_of(charge.labels),
        settleable_until=None,
    )


def _open_job(job: Job) -> results.OpenJob:
    order = job.order
    return results.OpenJob(
        job_id=job.id,
        order_id=None if order is None else order.order_id,
        phone_number=None if order is None else order.phone_number,
        service=job.asked.service or "",
        seconds_left=job.seconds_left,
    )
