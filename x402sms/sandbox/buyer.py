"""Who calls, what that call is worth, and what hangs on it: shared by all ways of being let in."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fastapi import Request
from starlette.responses import Response

from x402sms.sandbox.accounts import Account
from x402sms.sandbox.challenge import Price
from x402sms.sandbox.payments import PaymentRecord

Quote = Callable[[Request], Awaitable[Price]]
Work = Callable[[Request], Awaitable[Response]]


@dataclass
class Buyer:
    """Who pays for the request at hand: a wallet, or an account and then `caller` is its id.

    `undo` is called if the payment does not settle, `on_settled` once it has. Setting `order_id`
    names the order in the payment's record.
    """

    caller: str
    price_atomic: int
    account: Account | None = None
    order_id: str | None = None
    undo: list[Callable[[], None]] = field(default_factory=list)
    on_settled: list[Callable[[PaymentRecord], Awaitable[None]]] = field(default_factory=list)

    def take_back(self) -> None:
        while self.undo:
            self.undo.pop()()


@dataclass(frozen=True)
class Answer:
    """An answer to be given again, word for word."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, response: Response) -> Answer:
        headers = {name: text for name, text in response.headers.items() if name != _LENGTH}
        return cls(response.status_code, headers, bytes(response.body))

    def response(self) -> Response:
        return Response(self.body, self.status, headers=self.headers)


async def request_digest(request: Request) -> str:
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


_LENGTH = "content-length"  # counted anew
