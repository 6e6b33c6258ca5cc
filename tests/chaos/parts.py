"""What the chaos tests share: a buyer made from a seed, a stubborn caller, and the two books."""

from __future__ import annotations

import hashlib
import ssl
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import httpx

from tests.parts.fixtures import LocalChain
from x402sms import PaymentState, SpendLimits, Wallet
from x402sms.chain import Chain
from x402sms.errors import AlreadyPaid, PaymentError
from x402sms.ledger import Payment, SQLiteLedger
from x402sms.limits import LONGEST_WINDOW
from x402sms.protocol.eip3009 import intent_nonce
from x402sms.protocol.networks import BASE
from x402sms.reconcile import reconcile

# Loopback is plain HTTP; reading the machine's certificates for each client takes long.
NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
CALLER_RETRIES: Final = 4
ONE_USDC: Final = 1_000_000


def key_of(seed: str) -> str:
    """A private key that is the same for the same seed: its nonces are too."""
    return hashlib.sha256(seed.encode()).hexdigest()


def no_limits(**changes: Any) -> SpendLimits:
    return SpendLimits(**{"per_call": None, "per_day": None, **changes})


def intents_of(seed: str, count: int) -> list[str]:
    return [f"{seed}:{number}" for number in range(count)]


def nonce_of(wallet: Wallet, intent: str) -> str:
    return "0x" + intent_nonce(BASE, wallet.address, intent).hex()


def tell(figures: str) -> None:
    """pytest shows it with `-rP`, and on failure."""
    sys.stdout.write(f"{figures}\n")


class End(StrEnum):
    """How a purchase ended for its caller."""

    DELIVERED = "delivered"
    PAID = "paid and not delivered"
    OPEN = "neither, after all retries"


@dataclass(frozen=True)
class Bought:
    end: End
    content: bytes = b""


def buy(client: httpx.Client, method: str, url: str, intent: str, **options: Any) -> Bought:
    """As every application does it: once more after any failure, a bounded number of times.

    After AlreadyPaid too: asking again costs nothing, and an answer may have been lost again.
    """
    end = End.OPEN
    for _ in range(1 + CALLER_RETRIES):
        try:
            response = client.request(
                method, url, extensions={"x402": {"intent": intent}}, **options
            )
        except AlreadyPaid:
            end = End.PAID
            continue
        except (PaymentError, httpx.TransportError):
            continue
        if response.is_success:
            return Bought(End.DELIVERED, response.content)
    return Bought(end)


async def buy_async(client: httpx.AsyncClient, method: str, url: str, intent: str) -> Bought:
    end = End.OPEN
    for _ in range(1 + CALLER_RETRIES):
        try:
            response = await client.request(method, url, extensions={"x402": {"intent": intent}})
        except AlreadyPaid:
            end = End.PAID
            continue
        except (PaymentError, httpx.TransportError):
            continue
        if response.is_success:
            return Bought(End.DELIVERED, response.content)
    return Bought(end)


@dataclass(frozen=True)
class Paid:
    """One settlement, as the chain's events tell it."""

    nonce: str
    amount_atomic: int


def paid_on_chain(chain: LocalChain, payer: str) -> list[Paid]:
    """The payer's settlements, oldest first: each nonce beside its one transfer."""
    used = chain.usdc.authorizations_used(payer=payer)
    transfers = chain.usdc.transfers(sender=payer)
    assert [each.transaction for each in used] == [each.transaction for each in transfers]
    return [
        Paid("0x" + authorization.nonce.hex(), transfer.amount_atomic)
        for authorization, transfer in zip(used, transfers, strict=True)
    ]


def reconciled(chain: LocalChain, path: Path) -> Mapping[str, Payment]:
    """The rows of that ledger by nonce, once it knows what the chain proves.

    Call it when no server runs any more. The chain's time moves past every authorization, so that
    there is proof of each: what has not settled cannot settle later.
    """
    chain.anvil.move_clock(LONGEST_WINDOW + 1)
    with SQLiteLedger(path) as ledger, Chain(chain.rpc_url, BASE) as reader:
        report = reconcile(ledger, lambda _: reader, now=int(time.time()))
        assert report.all_proven, report
        return {payment.nonce: payment for payment in ledger.payments()}


def assert_books_agree(paid: Sequence[Paid], *ledgers: Mapping[str, Payment]) -> None:
    """Settled in a ledger if and only if used on the chain, and the same money in both."""
    amounts = {each.nonce: each.amount_atomic for each in paid}
    assert len(amounts) == len(paid), "a nonce has settled twice"
    booked: dict[str, int] = {}
    for rows in ledgers:
        for nonce, row in rows.items():
            assert row.state is (PaymentState.SETTLED if nonce in amounts else PaymentState.VOID)
            if row.state is PaymentState.SETTLED:
                assert row.verified
                booked[nonce] = row.amount_atomic
    assert booked == amounts
    assert sum(booked.values()) == sum(amounts.values())
