"""What one call costs its client: paid, signed, parsed, and paid over loopback."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
from x402.http import decode_payment_required_header
from x402.mechanisms.evm.exact.client import ExactEvmScheme
from x402.schemas import PaymentRequirements

from benchmarks.measure import Call, calling, interleaved
from benchmarks.report import timings
from benchmarks.shop import CHALLENGE, OFFER, URL, shop
from benchmarks.sides import COINCURVE, KEY, NATIVE, OFFICIALS, Official, our_settings
from x402sms import AsyncX402Transport, Wallet, X402Transport
from x402sms.protocol.effects import Prepay
from x402sms.protocol.eip3009 import Authorization, intent_nonce
from x402sms.protocol.networks import BASE
from x402sms.protocol.wire import Headers, parse_challenge
from x402sms.wallet import sign

FLOOR = "two bare httpx calls (the floor)"
REFERENCES = (NATIVE, COINCURVE)
DISK = "one durable write of 20 KB to this disk"
_PAGES = b"x" * 20_480  # what one row of the ledger makes SQLite write
_LOG_WRITES = 200  # and then it begins at the start of its log again


async def paid_in_process(rounds: int) -> str:
    """The shop is a MockTransport: what is left is the client, and for ours the disk."""
    heading = "One paid call, client side"
    return await _paid(heading, URL, lambda: httpx.MockTransport(shop), rounds)


async def paid_over_loopback(url: str, rounds: int) -> str:
    return await _paid("One paid call over loopback", url, None, rounds)


async def signed(rounds: int) -> str:
    """Build one authorization with a nonce of its own, and sign it."""
    wallet = Wallet.from_key(KEY)
    requirements = PaymentRequirements.model_validate(OFFER)

    def ours() -> bytes:
        nonce = intent_nonce(BASE, wallet.address, secrets.token_hex(16))
        now, pay_to = int(time.time()), str(OFFER["payTo"])
        authorization = Authorization(BASE, wallet.address, pay_to, 1000, 0, now + 60, nonce)
        return sign(wallet, authorization)

    calls = {"x402sms": calling(ours)}
    for official in OFFICIALS:
        calls[official.name] = calling(_signing(official, requirements))
    samples = await interleaved(calls, rounds)
    return timings("One authorization, built and signed", samples, references=REFERENCES)


async def parsed(rounds: int) -> str:
    """A challenge of version 2 in its header."""
    pairs = [("payment-required", CHALLENGE), ("content-type", "application/json")]
    official = "official x402"
    calls = {
        "x402sms": calling(lambda: parse_challenge(Headers(pairs), b"{}")),
        official: calling(lambda: decode_payment_required_header(CHALLENGE)),
    }
    samples = await interleaved(calls, rounds)
    return timings("One challenge, parsed", samples, references=(official,))


def _signing(official: Official, requirements: PaymentRequirements) -> Callable[[], object]:
    scheme = ExactEvmScheme(official.signer())

    def sign_one() -> object:
        official.choose()
        return scheme.create_payment_payload(requirements)

    return sign_one


async def _paid(
    heading: str, url: str, inner: Callable[[], httpx.MockTransport] | None, rounds: int
) -> str:
    with tempfile.TemporaryDirectory() as folder:
        async with _sides(Path(folder), url, inner) as calls:
            samples = await interleaved(calls, rounds)
    return timings(heading, samples, references=REFERENCES)


@asynccontextmanager
async def _sides(
    folder: Path, url: str, inner: Callable[[], httpx.MockTransport] | None
) -> AsyncIterator[dict[str, Call]]:
    """One call of each side. `inner` is what all send through, None for the network."""
    sync_inner: Any = httpx.HTTPTransport if inner is None else inner
    async_inner: Any = httpx.AsyncHTTPTransport if inner is None else inner
    calls: dict[str, Call] = {}
    async with AsyncExitStack() as stack:

        def synchronous(transport: httpx.BaseTransport) -> Callable[[], httpx.Response]:
            client = stack.enter_context(httpx.Client(transport=transport))
            return lambda: client.get(url)

        async def asynchronous(transport: httpx.AsyncBaseTransport) -> Call:
            client = await stack.enter_async_context(httpx.AsyncClient(transport=transport))
            return lambda: client.get(url)

        bare = synchronous(sync_inner())
        calls[FLOOR] = calling(lambda: (bare(), bare()))
        for where, location in (("on disk", folder / "payments.db"), ("in memory", ":memory:")):
            settings = our_settings(location)
            for prepay, how in ((Prepay.NEVER, ""), (Prepay.AUTO, " paid ahead")):
                own = None if inner is None else async_inner()  # the network: as it is installed
                calls[f"x402sms{how}, ledger {where}"] = calling(
                    synchronous(X402Transport(**settings, prepay=prepay, transport=sync_inner()))
                )
                calls[f"x402sms async{how}, ledger {where}"] = await asynchronous(
                    AsyncX402Transport(**settings, prepay=prepay, transport=own)
                )
        for official in OFFICIALS:
            paid = await asynchronous(official.transport(async_inner()))
            calls[official.name] = _choosing(official, paid)
        calls[DISK] = calling(_durable_write(folder / "durable"))
        yield calls


def _choosing(official: Official, paid: Call) -> Call:
    def call() -> Awaitable[object]:
        official.choose()
        return paid()

    return call


def _durable_write(path: Path) -> Callable[[], object]:
    """What no client that writes down first can be without: the disk's own share."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.write(file, _PAGES * _LOG_WRITES)
    os.fsync(file)
    places = cycle(range(0, len(_PAGES) * _LOG_WRITES, len(_PAGES)))

    def write() -> None:
        os.pwrite(file, _PAGES, next(places))
        os.fdatasync(file)

    return write
