"""Who is measured: ours and the official client, with the same key, through any inner transport."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

KEY = "0x" + "5a" * 32
NATIVE = "official x402, as installed"
COINCURVE = "official x402 with coincurve"

Inner = Callable[[], Any]


@dataclass(frozen=True)
class Official:
    """The official client: its signer and its httpx transport. `backend` is a class of eth_keys."""

    name: str
    backend: str

    def signer(self) -> Any:
        from eth_account import Account  # noqa: PLC0415  0.7 s, and 30 MB that are not ours
        from x402.mechanisms.evm.signers import EthAccountSigner  # noqa: PLC0415  as above

        return EthAccountSigner(Account.from_key(KEY))

    def choose(self) -> None:
        """From now on it signs with this backend: eth_keys looks at each signature, and would take
        coincurve wherever that is installed, as it is for ours."""
        os.environ["ECC_BACKEND_CLASS"] = self.backend

    def transport(self, inner: httpx.AsyncBaseTransport | None) -> httpx.AsyncBaseTransport:
        from x402 import x402Client  # noqa: PLC0415  as above
        from x402.http.clients.httpx import x402AsyncTransport  # noqa: PLC0415  as above
        from x402.mechanisms.evm.exact.register import (  # noqa: PLC0415  as above
            register_exact_evm_client,
        )

        client = x402Client()
        register_exact_evm_client(client, self.signer())
        return x402AsyncTransport(client, inner)


OFFICIALS = (
    Official(NATIVE, "eth_keys.backends.NativeECCBackend"),
    Official(COINCURVE, "eth_keys.backends.CoinCurveECCBackend"),
)


def our_settings(ledger: str | os.PathLike[str], **settings: Any) -> dict[str, Any]:
    """For both our transports: limits that count (so that the ledger adds up) and allow it all."""
    from x402sms import SpendLimits, Wallet, open_ledger  # noqa: PLC0415  measured elsewhere

    limits = SpendLimits(per_day="1000000")
    wallet = Wallet.from_key(KEY)
    return {"wallet": wallet, "limits": limits, "ledger": open_ledger(ledger), **settings}
