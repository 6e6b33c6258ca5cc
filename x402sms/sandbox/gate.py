"""The resource server's side of a paid call: ask, verify, do the work, settle last, answer.

One signed payment buys one request, once. Whatever the work changed is taken back if the payment
then does not settle; a replay of a settled payment gets the first answer again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from eth_utils.address import is_checksum_address
from fastapi import Request
from starlette.responses import Response

from x402sms.sandbox.buyer import Answer, Buyer, Quote, Work, request_digest
from x402sms.sandbox.challenge import Price, Terms, challenge, offer, settlement_header
from x402sms.sandbox.clock import Clock
from x402sms.sandbox.faults import Call
from x402sms.sandbox.payments import Payment, PaymentRecord, Refused, parse_payment, verify
from x402sms.sandbox.rates import Rates
from x402sms.sandbox.settlement import INSUFFICIENT, NONCE_USED, Settlement

TOO_DEAR = 10  # by how much a wrong price is wrong
FREE_WALLET = "0x00000000000000000000000000000000000f4ee0"


@dataclass(frozen=True)
class _Bought:
    """What a settled payment bought, and with which payload and request."""

    payload_digest: str
    request_digest: str
    answer: Answer


class Gate:
    """`clock` is the payments' own: the orders' clock may run ahead of everyone's signatures.

    A `free` one lets everybody in unpaid, as the wallet that `X-Sandbox-Wallet` names.
    """

    def __init__(
        self,
        terms: Terms,
        settlement: Settlement,
        records: list[PaymentRecord],
        clock: Clock,
        rates: Rates,
        *,
        free: bool = False,
    ) -> None:
        self.terms = terms
        self._settlement = settlement
        self._records = records
        self._clock = clock
        self._rates = rates
        self._free = free
        self._answers: dict[tuple[str, str], _Bought] = {}
        # The wrong prices that were asked, by request: each may be paid as it was asked.
        self._wrong_prices: dict[str, int] = {}
        # Weak: a lock lives as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def serve(self, request: Request, quote: Quote, work: Work, call: Call) -> Response:
        """`quote` prices the request (or raises Problem); `work` finds its Buyer in the state."""
        await request.body()  # kept by the request; from here on it can be read at any time
        if self._free:
            return await self._serve_free(request, quote, work)
        headers = request.headers.getlist(self.terms.request_header)
        if not headers:
            self._rates.count(_address(request))
            price = await quote(request)
            if call.strikes("wrong-price"):
                price = replace(price, amount_atomic=price.amount_atomic * TOO_DEAR)
                self._wrong_prices[await request_digest(request)] = price.amount_atomic
            return self._challenge(request, price)
        try:
            payment = self._parse(headers)
        except Refused as refused:
            self._rates.count(_address(request))
            return self._challenge(request, await quote(request), refused)
        self._rates.count(payment.authorization.payer)
        lock = self._locks.setdefault(payment.key, asyncio.Lock())
        async with lock:
            return await self._serve_alone(request, payment, quote, work)

    async def _serve_alone(
        self, request: Request, payment: Payment, quote: Quote, work: Work
    ) -> Response:
        """Under the lock of the payment's nonce."""
        asked = await request_digest(request)
        first = self._answers.get(payment.key)
        if first and (first.payload_digest, first.request_digest) == (
            payment.payload_digest,
            asked,
        ):
            return first.answer.response()
        price = await quote(request)
        if self._wrong_prices.get(asked) == payment.authorization.value:
            price = replace(price, amount_atomic=payment.authorization.value)
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
            self.terms, record.payer, record.transaction, record.amount_atomic
        )
        response.headers[self.terms.response_header] = header
        bought = _Bought(payment.payload_digest, asked, Answer.of(response))
        self._answers[payment.key] = bought
        for settled in buyer.on_settled:
            await settled(record)
        return response

    async def _serve_free(self, request: Request, quote: Quote, work: Work) -> Response:
        wallet = request.headers.get("X-Sandbox-Wallet", "")
        buyer = Buyer(wallet if is_checksum_address(wallet) else FREE_WALLET, 0)
        self._rates.count(buyer.caller)
        await quote(request)
        request.state.buyer = buyer
        try:
            response = await work(request)
        except BaseException:
            buyer.take_back()
            raise
        none = "0x" + "0" * 64
        record = self._record(request, buyer, self.terms.pay_to, none, none)
        for settled in buyer.on_settled:
            await settled(record)
        return response

    def _parse(self, headers: list[str]) -> Payment:
        if len(headers) != 1:
            raise Refused("invalid_payload")
        return parse_payment(headers[0], self.terms.dialect)

    async def _verify(self, request: Request, payment: Payment, price: Price) -> None:
        terms, authorization = self.terms, payment.authorization
        asked = offer(terms, price, str(request.url))
        verify(payment, asked, terms.chain, terms.dialect, int(self._clock.now()))
        if await self._settlement.nonce_used(authorization):
            raise Refused(NONCE_USED, authorization.payer)
        if await self._settlement.balance(authorization.payer) < authorization.value:
            raise Refused(INSUFFICIENT, authorization.payer)

    async def _settle(self, request: Request, payment: Payment, buyer: Buyer) -> PaymentRecord:
        transaction = await self._settlement.settle(payment)
        authorization = payment.authorization
        record = self._record(
            request, buyer, authorization.pay_to, authorization.nonce, transaction
        )
        self._records.append(record)
        return record

    def _record(
        self, request: Request, buyer: Buyer, pay_to: str, nonce: str, transaction: str
    ) -> PaymentRecord:
        return PaymentRecord(
            payer=buyer.caller,
            pay_to=pay_to,
            amount_atomic=buyer.price_atomic,
            nonce=nonce,
            transaction=transaction,
            method=request.method,
            path=request.url.path,
            order_id=buyer.order_id,
            settled_at=self._clock.now(),
        )

    def _challenge(
        self, request: Request, price: Price, refused: Refused | None = None
    ) -> Response:
        return challenge(self.terms, price, str(request.url), refused)


def _address(request: Request) -> str:
    """Who calls without paying: all we know is from where."""
    return request.client.host if request.client else ""
