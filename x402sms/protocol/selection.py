"""Which of a challenge's offers may be paid: only what the pinned table allows."""

from __future__ import annotations

from x402sms.errors import NoAcceptableOffer
from x402sms.money import format_usdc
from x402sms.protocol.networks import Network, find_network
from x402sms.protocol.types import Dialect, Offer, PaymentRequired, PaymentRequirements
from x402sms.text import one_line

# x402 names the EIP-3009 way "eip3009" and takes it as the default; "permit2" is another contract.
_TRANSFER_METHODS = (None, "eip3009")


def select(challenge: PaymentRequired, network: Network) -> Offer:
    """The cheapest offer that is `exact`, EIP-3009, in USDC, on `network`; the first of equals.

    Raises NoAcceptableOffer, saying what was offered and what is wrong with each.
    """
    refusals = [_refusal(entry, network, challenge.dialect) for entry in challenge.accepts]
    payable = [
        entry for entry, refusal in zip(challenge.accepts, refusals, strict=True) if refusal is None
    ]
    if not payable:
        offered = tuple(
            f"{_describe(entry)} ({refusal})"
            for entry, refusal in zip(challenge.accepts, refusals, strict=True)
        )
        raise NoAcceptableOffer(
            f"nothing signed: x402sms pays USDC on {network.title} by EIP-3009, and the server "
            f"offers only: {'; '.join(offered)}",
            offered=offered,
        )
    chosen = min(payable, key=lambda entry: entry.amount_atomic)
    return Offer(
        network=network,
        amount_atomic=chosen.amount_atomic,
        pay_to=chosen.pay_to,
        max_timeout_seconds=chosen.max_timeout_seconds,
        challenge=challenge,
        requirements=chosen,
    )


def _refusal(entry: PaymentRequirements, network: Network, dialect: Dialect) -> str | None:
    """What keeps an entry from being paid, None where nothing does."""
    network_name = network.caip2 if dialect is Dialect.V2 else network.name
    usdc = "USDC" if dialect is Dialect.HEADER else network.usdc
    requirements = (
        (entry.scheme == "exact", "not the scheme exact"),
        (find_network(entry.network) is not None, "not a network x402sms pays on"),
        (find_network(entry.network) is network, f"this wallet is set to {network.name}"),
        (entry.network == network_name, f"{dialect} names this network {network_name}"),
        (entry.asset == usdc, "not USDC's contract"),
        (entry.transfer_method in _TRANSFER_METHODS, "not by EIP-3009"),
    )
    return next((refusal for met, refusal in requirements if not met), None)


def _describe(entry: PaymentRequirements) -> str:
    known = find_network(entry.network)
    in_usdc = known is not None and entry.asset in (known.usdc, "USDC")
    amount = (
        f"{format_usdc(entry.amount_atomic)} USDC"
        if in_usdc
        else (f"{entry.amount_atomic} units of {_short(entry.asset)}")
    )
    method = f", {_short(entry.transfer_method)}" if entry.transfer_method else ""
    return f"{_short(entry.scheme)}{method}, {amount} on {_short(entry.network)}"


def _short(text: str) -> str:
    return one_line(text, 60)
