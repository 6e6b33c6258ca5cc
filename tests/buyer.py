"""One way to buy, in both colours: a test that uses it is written once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Literal

import httpx

from x402sms import AsyncX402Transport, SpendLimits, Wallet, X402Transport
from x402sms.ledger import Ledger, Payment, SQLiteLedger
from x402sms.protocol.types import Receipt

Colour = Literal["sync", "async"]
COLOURS: tuple[Colour, ...] = ("sync", "async")


class Buyer:
    """A wallet with a ledger in memory, buying through `inner`."""

    def __init__(
        self,
        colour: Colour,
        inner: Any,
        *,
        wallet: Any = None,
        limits: SpendLimits | None = None,
        ledger: Ledger | None = None,
        **settings: Any,
    ) -> None:
        self.colour = colour
        self.inner = inner
        self.wallet = Wallet.generate() if wallet is None else wallet
        self.ledger = SQLiteLedger(":memory:") if ledger is None else ledger
        self.settings = {"limits": limits, "retry_pauses": (0, 0, 0), **settings}

    def get(self, url: str = "https://shop.example/x", **options: Any) -> httpx.Response:
        return self.send("GET", url, **options)

    def post(self, url: str = "https://shop.example/x", **options: Any) -> httpx.Response:
        return self.send("POST", url, **options)

    def send(
        self,
        method: str,
        url: str,
        *,
        follow_redirects: bool = False,
        chunks: Iterable[bytes] | None = None,
        x402: dict[str, Any] | None = None,
        **options: Any,
    ) -> httpx.Response:
        """The answer, read. `chunks` is a request body that can be streamed only once."""
        if x402 is not None:
            options["extensions"] = {"x402": x402}
        if self.colour == "sync":
            if chunks is not None:
                options["content"] = iter(chunks)
            with httpx.Client(
                transport=self.sync_transport(), follow_redirects=follow_redirects
            ) as client:
                return client.request(method, url, **options)
        return asyncio.run(self._send(method, url, follow_redirects, chunks, options))

    async def _send(
        self,
        method: str,
        url: str,
        follow_redirects: bool,
        chunks: Iterable[bytes] | None,
        options: dict[str, Any],
    ) -> httpx.Response:
        if chunks is not None:
            options["content"] = _once(chunks)
        async with httpx.AsyncClient(
            transport=self.async_transport(), follow_redirects=follow_redirects
        ) as client:
            return await client.request(method, url, **options)

    def sync_transport(self) -> X402Transport:
        return X402Transport(self.wallet, ledger=self.ledger, transport=self.inner, **self.settings)

    def async_transport(self) -> AsyncX402Transport:
        return AsyncX402Transport(
            self.wallet, ledger=self.ledger, transport=self.inner, **self.settings
        )

    @property
    def payments(self) -> list[Payment]:
        """What the ledger holds, newest first."""
        return list(self.ledger.payments())


def receipt_of(response: httpx.Response) -> Receipt:
    receipt = response.extensions["x402"]
    assert isinstance(receipt, Receipt)
    return receipt


async def _once(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
