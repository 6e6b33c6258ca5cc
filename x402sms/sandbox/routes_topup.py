"""The road from a wallet to a key: a deposit, paid over x402 v1 whatever the other routes speak."""

from __future__ import annotations

from fastapi import APIRouter, Request

from x402sms.money import format_usdc, parse_usdc
from x402sms.sandbox.accounts import new_key
from x402sms.sandbox.bodies import read_body
from x402sms.sandbox.challenge import Price
from x402sms.sandbox.endpoints import TOP_UP_PATH
from x402sms.sandbox.models import TopUpIn, TopUpOut
from x402sms.sandbox.paid import RESPONSES, PaidRoute, TheBuyer, TheSandbox, costs
from x402sms.sandbox.payments import PaymentRecord
from x402sms.sandbox.state import sandbox_of

router = APIRouter(route_class=PaidRoute, responses=RESPONSES, tags=["top-up"])


async def quote_deposit(request: Request) -> Price:
    """The price is the amount; a key that is none is refused for nothing (401)."""
    wanted = await read_body(request, TopUpIn.exact)
    if wanted.api_key is not None:
        sandbox_of(request).accounts.of_key(wanted.api_key)
    amount = parse_usdc(wanted.amount_usd)
    return Price(amount, f"{format_usdc(amount)} USD on a VirtualSMS account")


@router.post(TOP_UP_PATH)
@costs(quote_deposit)
async def top_up(
    wanted: TopUpIn, request: Request, sandbox: TheSandbox, buyer: TheBuyer
) -> TopUpOut:
    """Without `api_key` a new account with a new key; neither exists before the payment settles."""
    accounts, amount = sandbox.accounts, parse_usdc(wanted.amount_usd)
    if wanted.api_key is None:
        api_key, account = new_key(), accounts.new()
    else:
        api_key, account = wanted.api_key, accounts.of_key(wanted.api_key)

    async def deposited(record: PaymentRecord) -> None:
        accounts.admit(account, api_key)
        accounts.deposit(account, amount, record.path)

    buyer.on_settled.append(deposited)
    api = str(request.base_url).rstrip("/") + sandbox.config.api_prefix
    return TopUpOut(
        api_key=api_key,
        balance_usd=format_usdc(account.balance_atomic + amount),
        user_id=account.account_id,
        endpoints={
            "base": api,
            "balance": f"{api}/me/balance",
            "services": f"{api}/services",
            "orders": f"{api}/orders",
        },
    )
