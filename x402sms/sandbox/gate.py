"""The resource server's side of a paid call: ask, verify, do the work, settle last, answer.

One signed payment buys one request, once. Whatever the work changed is taken back if the payment
then does not settle; a replay of a settled payment gets the first answer again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from fastapi import Request
from starlette.responses import Response

from x402sms.sandbox.challenge import Price, Terms, challenge, offer, settlement_header
from x402sms.sandbox.clock import Clock
from x402sms.sandbox.payments import Payment, PaymentRecord, Refused, parse_payment, verify
from x402sms.sandbox.settlement import INSUFFICIENT, NONCE_USED, Settlement

Quote = Callable[[Request], Awaitable[Price]]
Work = Callable[[Request], Awaitable[Response]]


@dataclass
class Buyer:
    """Who pays for the request at hand, and what hangs on that payment.

    `undo` is called if the payment does not settle, `on_settled` once it has. Setting `order_id`
    names the order in the payment's record.
    """

    wallet: str
    price_atomic: int
    order_id: str | None = None
    undo: list[Callable[[], None]] = field(default_factory=list)
    on_settled: list[Callable[[PaymentRecord], Awaitable[None]]] = field(default_factory=list)

    def take_back(self) -> None:
        while self.undo:
            self.undo.pop()()


@dataclass(frozen=True)
class _Answer:
    """What a settled payment bought, and for which request."""

    payload_digest: str
    request_digest: str
    status: int
    headers: dict[str, str]
    body: bytes

    def response(self) -> Response:
        return Response(self.body, self.status, headers=self.headers)


class Gate:
    """`clock` is the payments' own: the orders' clock may run ahead of everyone's signatures."""

    def __init__(
        self, terms: Terms, settlement: Settlement, records: list[PaymentRecord], clock: Clock
    ) -> None:
        self._terms = terms
        self._settlement = settlement
        self._records = records
        self._clock = clock
        self._answers: dict[tuple[str, str], _Answer] = {}
        # Weak: a lock lives as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def serve(self, request: Request, quote: Quote, work: Work) -> Response:
        """`quote` prices the request (or raises Problem); `work` finds its Buyer in the state."""
        await request.body()  # kept by the request; from here on it can be read at any time
        headers = request.headers.getlist(self._terms.request_header)
        if not headers:
            return self._challenge(request, await quote(request))
        try:
            payment = self._parse(headers)
        except Refused as refused:
            return self._challenge(request, await quote(request), refused)
        lock = self._locks.setdefault(payment.key, asyncio.Lock())
        async with lock:
            return await self._serve_alone(request, payment, quote, work)

    async def _serve_alone(
        self, request: Request, payment: Payment, quote: Quote, work: Work
    ) -> Response:
        """Under the lock of the payment's nonce."""
        asked = await _request_digest(request)
        first = self._answers.get(payment.key)
        if first and (first.payload_digest, first.request_digest) == (
            payment.payload_digest,
            asked,
        ):
            return first.response()
        price = await quote(request)
        try:
            await self._verify(request, payment, price)
        except Refused as refused:
            return self._challenge(request, price, refused)
        buyer = Buyer(payment.authorization.payer, price.amount_atomic)
        request.state.buyer = buyer
        try:
            response = await work(request)
            if response.status_code >= 400:
                buyer.take_back()
                return response
            record = await self._settle(request, payment, buyer)
        except Refused as refused:
            buyer.take_back()
            return self._challenge(request, price, refused)
        except BaseException:
            buyer.take_back()
            raise
        header = settlement_header(
            self._terms, record.payer, record.transaction, record.amount_atomic
        )
        response.headers[self._terms.response_header] = header
        self._answers[payment.key] = _Answer(
            payment.payload_digest,
            asked,
            response.status_code,
            {name: value for name, value in response.headers.items() if name != "content-length"},
            bytes(response.body),
        )
        for settled in buyer.on_settled:
            await settled(record)
        return response

    def _parse(self, headers: list[str]) -> Payment:
        if len(headers) != 1:
            raise Refused("invalid_payload")
        return parse_payment(headers[0], self._terms.dialect)

    async def _verify(self, request: Request, payment: Payment, price: Price) -> None:
        terms, authorization = self._terms, payment.authorization
        asked = offer(terms, price, str(request.url))
        verify(payment, asked, terms.chain, terms.dialect, int(self._clock.now()))
        if await self._settlement.nonce_used(authorization):
            raise Refused(NONCE_USED, authorization.payer)
        if await self._settlement.balance(authorization.payer) < authorization.value:
            raise Refused(INSUFFICIENT, authorization.payer)

    async def _settle(self, request: Request, payment: Payment, buyer: Buyer) -> PaymentRecord:
        transaction = await self._settlement.settle(payment)
        record = PaymentRecord(
            payer=buyer.wallet,
            pay_to=payment.authorization.pay_to,
            amount_atomic=payment.authorization.value,
            nonce=payment.authorization.nonce,
            transaction=transaction,
            method=request.method,
            path=request.url.path,
            order_id=buyer.order_id,
            settled_at=self._clock.now(),
        )
        self._records.append(record)
        return record

    def _challenge(
        self, request: Request, price: Price, refused: Refused | None = None
    ) -> Response:
        return challenge(self._terms, price, str(request.url), refused)


async def _request_digest(request: Request) -> str:
    """Tells one request from another: method, path, query and body, not the headers."""
    parts = [
        request.method.encode(),
        request.scope.get("raw_path") or request.url.path.encode(),
        request.scope["query_string"],
        await request.body(),
    ]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
