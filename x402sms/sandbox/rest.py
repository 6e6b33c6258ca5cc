"""The way in with an API key: served from an account's balance, and never asked to pay.

The counterpart of the gate: same routes, same orders, same prices. Whatever the work changed is
taken back if it fails. An `Idempotency-Key` on a POST gets the first answer that succeeded again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from fastapi import Request
from starlette.responses import Response

from x402sms.sandbox.accounts import Account, Accounts, unauthorized
from x402sms.sandbox.buyer import Answer, Buyer, Quote, Work, request_digest
from x402sms.sandbox.payments import PaymentRecord
from x402sms.sandbox.problems import Problem, validation
from x402sms.sandbox.rates import Rates

IDEMPOTENCY_KEY = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
MAX_KEY = 255  # characters of an idempotency key


@dataclass(frozen=True)
class _Kept:
    """The first successful answer under an idempotency key, and what it answered."""

    request_digest: str
    answer: Answer


class Desk:
    """Where callers with a key are served; `now` gives the orders' time."""

    def __init__(self, accounts: Accounts, rates: Rates, now: Callable[[], float]) -> None:
        self._accounts = accounts
        self._rates = rates
        self._now = now
        self._kept: dict[tuple[str, str], _Kept] = {}
        # Weak: a lock lives as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def serve(self, request: Request, quote: Quote, work: Work) -> Response:
        """Raises Problem: 401 for a wrong key, 402 for too little balance, 429, 422."""
        await request.body()  # kept by the request; from here on it can be read at any time
        api_key = _api_key(request)
        account = self._accounts.of_key(api_key)
        self._rates.count(api_key)
        name = _idempotency_key(request)
        if name is None:
            return await self._serve(request, account, quote, work)
        kept_as = (account.account_id, name)
        # Whoever comes while the first is in progress waits for its answer.
        async with self._locks.setdefault(kept_as, asyncio.Lock()):
            asked = await request_digest(request)
            first = self._kept.get(kept_as)
            if first is None:
                response = await self._serve(request, account, quote, work)
                if response.status_code < 400:
                    self._kept[kept_as] = _Kept(asked, Answer.of(response))
                return response
        if first.request_digest != asked:
            raise Problem(
                422,
                "idempotency-key-reused",
                f"The {IDEMPOTENCY_KEY} was used for another request",
            )
        replayed = first.answer.response()
        replayed.headers[REPLAYED] = "true"
        return replayed

    async def _serve(
        self, request: Request, account: Account, quote: Quote, work: Work
    ) -> Response:
        price = await quote(request)
        amount = 0 if price.per_call else price.amount_atomic
        buyer = Buyer(account.account_id, amount, account)
        buyer.undo.append(self._accounts.reserve(account, amount))
        request.state.buyer = buyer
        try:
            response = await work(request)
        except BaseException:
            buyer.take_back()
            raise
        if response.status_code >= 400:
            buyer.take_back()
            return response
        record = PaymentRecord(
            payer=buyer.caller,
            pay_to="",
            amount_atomic=amount,
            nonce="",
            transaction="",
            method=request.method,
            path=request.url.path,
            order_id=buyer.order_id,
            settled_at=self._now(),
        )
        self._accounts.purchased(account, record)
        for settled in buyer.on_settled:
            await settled(record)
        return response


def is_rest(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request, by its raw headers, comes with a Bearer token, be it a wrong one."""
    return any(
        name.lower() == b"authorization" and value.lower().split()[:1] == [b"bearer"]
        for name, value in headers
    )


def _api_key(request: Request) -> str:
    given = request.headers.getlist("Authorization")
    words = given[0].split()
    if len(given) != 1 or len(words) != 2:
        raise unauthorized("Authorization is not one Bearer token")
    return words[1]


def _idempotency_key(request: Request) -> str | None:
    """Of a POST; on what changes nothing it has no meaning."""
    given = request.headers.getlist(IDEMPOTENCY_KEY)
    if request.method != "POST" or not given:
        return None
    if len(given) != 1 or not 1 <= len(given[0]) <= MAX_KEY:
        raise validation(f"{IDEMPOTENCY_KEY}: one header of 1 to {MAX_KEY} characters")
    return given[0]
