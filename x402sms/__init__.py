"""x402sms: rent a phone number, get its SMS code, pay per call in USDC over x402.

The public names, and nothing else; each loads on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from x402sms._version import __version__

if TYPE_CHECKING:
    from x402sms.client import AsyncClient, Client
    from x402sms.errors import X402SMSError
    from x402sms.ledger import open_ledger
    from x402sms.limits import SpendLimits
    from x402sms.protocol.types import PaymentState, Receipt
    from x402sms.transport import AsyncX402Transport, X402Transport
    from x402sms.wallet import Signer, Wallet

__all__ = [
    "AsyncClient",
    "AsyncX402Transport",
    "Client",
    "PaymentState",
    "Receipt",
    "Signer",
    "SpendLimits",
    "Wallet",
    "X402SMSError",
    "X402Transport",
    "__version__",
    "open_ledger",
]

_HOMES = {
    "AsyncClient": "client",
    "AsyncX402Transport": "transport",
    "Client": "client",
    "PaymentState": "protocol.types",
    "Receipt": "protocol.types",
    "Signer": "wallet",
    "SpendLimits": "limits",
    "Wallet": "wallet",
    "X402SMSError": "errors",
    "X402Transport": "transport",
    "open_ledger": "ledger",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
