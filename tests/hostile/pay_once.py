"""One purchase through a hostile facilitator: the command that the battery runs in each mode.

    hostile-facilitator test -- python -m tests.hostile.pay_once BUYER

A seller on loopback, the official x402 resource server with the battery as its facilitator over
HTTP, and one buyer with the retry loop that every application writes around a call. The buyers
differ in what they carry from one try to the next. What each try ended in, and what the ledger
says at the end, is added as a line of JSON to the file named by PAY_ONCE_REPORT.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import uvicorn
from eth_account import Account
from fastapi import FastAPI, Request, Response
from x402 import x402Client, x402ResourceServer
from x402.http import FacilitatorConfig, HTTPFacilitatorClient
from x402.http.clients import x402AsyncTransport
from x402.http.middleware.fastapi import payment_middleware
from x402.http.types import PaymentOption, RouteConfig
from x402.mechanisms.evm import EthAccountSigner
from x402.mechanisms.evm.exact import register_exact_evm_client, register_exact_evm_server

from tests.hostile.reconcile_reader import ReconcileReader
from x402sms import Wallet, X402Transport
from x402sms.ledger import Ledger, SQLiteLedger

INTENT: Final = {"x402": {"intent": "invoice-7"}}
TRIES: Final = 4
TRY_PAUSE: Final = 0.1
SECONDS: Final = 10
GOODS: Final = {"weather": "sunny"}
PAY_TO: Final = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
PRICE: Final = "$0.01"
PRICE_ATOMIC: Final = 10_000
REPORT: Final = "PAY_ONCE_REPORT"


@dataclass
class Report:
    """What each try ended in (a status or an error), and the ledgers' rows.

    A row is its state; `verified` where the chain says so, else the reason, where there is one.
    """

    tries: list[str] = field(default_factory=list)
    delivered: bool = False
    nonces: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)

    def take(self, ledger: Ledger) -> None:
        for row in ledger.payments():
            self.nonces.append(row.nonce)
            why = "verified" if row.verified else row.reason
            self.rows.append(row.state + (f": {why}" if why else ""))


@dataclass(frozen=True)
class Market:
    """Where to buy, and how to ask whether a payment landed."""

    url: str
    facilitator_url: str

    @contextmanager
    def client(self, wallet: Wallet, report: Report, **settings: Any) -> Iterator[httpx.Client]:
        """A client with a ledger of its own, which is in the report once the block ends."""
        with (
            closing(SQLiteLedger(":memory:")) as ledger,
            closing(
                ReconcileReader(self.facilitator_url, pay_to=PAY_TO, amount_atomic=PRICE_ATOMIC)
            ) as chain,
        ):
            transport = X402Transport(wallet, ledger=ledger, chain=chain, **settings)
            try:
                with httpx.Client(transport=transport, trust_env=False, timeout=SECONDS) as client:
                    yield client
            finally:
                report.take(ledger)


class Deaf(httpx.HTTPTransport):
    """Loses every answer to a request that carried a payment."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if "payment-signature" in request.headers:
            response.close()
            raise httpx.ReadError("the connection was reset", request=request)
        return response


def try_again(report: Report, buy: Callable[[], httpx.Response], *, tries: int = TRIES) -> None:
    """The loop that every application writes."""
    for _ in range(tries):
        try:
            response = buy().raise_for_status()
        except Exception as error:  # noqa: BLE001  that is how it is written
            report.tries.append(type(error).__name__)
            time.sleep(TRY_PAUSE)
        else:
            report.tries.append(str(response.status_code))
            report.delivered = response.json() == GOODS
            return


def documented(market: Market, report: Report) -> None:
    """As the README says: the purchase has an intent, and each try gives it."""
    with market.client(Wallet.generate(), report) as client:
        try_again(report, lambda: client.get(market.url, extensions=INTENT))


def resending(market: Market, report: Report) -> None:
    """No intent, and a transport that never presents again: the same request is sent again."""
    with market.client(Wallet.generate(), report, retry_pauses=()) as client:
        request = client.build_request("GET", market.url)
        try_again(report, lambda: client.send(request))


def elsewhere(market: Market, report: Report) -> None:
    """Each try on a machine of its own: nothing in common but the key and the intent."""
    wallet = Wallet.generate()

    def buy() -> httpx.Response:
        with market.client(wallet, report, retry_pauses=()) as client:
            return client.get(market.url, extensions=INTENT)

    try_again(report, buy)


def deaf(market: Market, report: Report) -> None:
    """No paid answer ever arrives: what became of the money is to be had from `/reconcile` only."""
    settings = {"transport": Deaf(), "retry_pauses": (TRY_PAUSE,)}
    with market.client(Wallet.generate(), report, **settings) as client:
        try_again(report, lambda: client.get(market.url, extensions=INTENT))


def once(market: Market, report: Report) -> None:
    """One try, presented once: the seller refuses what has settled, and is not asked again."""
    with market.client(Wallet.generate(), report, retry_pauses=()) as client:
        try_again(report, lambda: client.get(market.url), tries=1)


def official(market: Market, report: Report) -> None:
    """The control: the official client, which signs each try anew."""
    payer = register_exact_evm_client(x402Client(), EthAccountSigner(Account.create()))

    async def get() -> httpx.Response:
        transport = x402AsyncTransport(payer)
        async with httpx.AsyncClient(
            transport=transport, trust_env=False, timeout=SECONDS
        ) as client:
            return await client.get(market.url)

    try_again(report, lambda: asyncio.run(get()))


BUYERS: Final = {
    buyer.__name__: buyer for buyer in (documented, resending, elsewhere, deaf, once, official)
}


@contextmanager
def selling(facilitator_url: str, patience: float) -> Iterator[Market]:
    """The official resource server, until the block ends; it waits `patience` for a facilitator."""
    config = FacilitatorConfig(url=facilitator_url, timeout=patience)
    app = _app(x402ResourceServer(HTTPFacilitatorClient(config)))
    with socket.create_server(("127.0.0.1", 0)) as listener, _serving(app, listener):
        port = listener.getsockname()[1]
        yield Market(f"http://127.0.0.1:{port}/weather", facilitator_url)


def _app(server: x402ResourceServer) -> FastAPI:
    price = PaymentOption(scheme="exact", network="eip155:8453", pay_to=PAY_TO, price=PRICE)
    app = FastAPI()
    charge = payment_middleware(
        {"GET /weather": RouteConfig(accepts=price)}, register_exact_evm_server(server)
    )

    @app.middleware("http")
    async def paywall(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        return await charge(request, call_next)

    @app.get("/weather")
    async def weather() -> dict[str, str]:
        return GOODS

    return app


@contextmanager
def _serving(app: FastAPI, listener: socket.socket) -> Iterator[None]:
    server = uvicorn.Server(
        uvicorn.Config(app, lifespan="off", ws="none", log_config=None, timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError("the seller did not start")
        time.sleep(0.005)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=SECONDS)


def main() -> None:
    [_, name] = sys.argv
    facilitator_url = os.environ["FACILITATOR_URL"]
    patience = float(os.environ["HOSTILE_CLIENT_TIMEOUT"])
    report = Report()
    try:
        with selling(facilitator_url, patience) as market:
            BUYERS[name](market, report)
    finally:
        if path := os.environ.get(REPORT):
            with Path(path).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(report)) + "\n")


if __name__ == "__main__":
    main()
