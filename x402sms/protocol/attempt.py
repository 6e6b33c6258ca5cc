"""From a challenge to the one object that is checked, stored and signed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from x402sms.errors import ClockSkew, InsecureOrigin
from x402sms.protocol.effects import Answer, Payer, Purchase
from x402sms.protocol.eip3009 import Authorization, intent_nonce, validity_window
from x402sms.protocol.selection import select
from x402sms.protocol.types import Attempt, Dialect, Offer, PaymentRequired

_IDENTIFIER = "payment-identifier"


def make_attempt(
    payer: Payer, purchase: Purchase, challenge: PaymentRequired, answer: Answer, now: int
) -> Attempt:
    """Check everything, then build what will be signed. Nothing is read a second time.

    Raises InsecureOrigin, NoAcceptableOffer, SpendLimitExceeded, ClockSkew.
    """
    if not purchase.private:
        raise InsecureOrigin(
            f"nothing signed: {purchase.url} asks for a payment over plain http, where anyone on "
            "the way can change the price and take the answer; use https (http is paid only on "
            "this machine's loopback)"
        )
    offer = select(challenge, payer.network)
    payer.limits.check(offer, intent=purchase.intent, max_amount_atomic=purchase.max_amount_atomic)
    _check_clock(payer.max_clock_skew, answer.headers.date(), now)
    valid_after, valid_before = validity_window(
        now,
        asked=offer.max_timeout_seconds,
        needed=purchase.takes_seconds,
        longest=payer.limits.authorization_ttl,
    )
    authorization = Authorization(
        network=offer.network,
        payer=payer.address,
        pay_to=offer.pay_to,
        amount_atomic=offer.amount_atomic,
        valid_after=valid_after,
        valid_before=valid_before,
        nonce=intent_nonce(offer.network, payer.address, purchase.intent),
    )
    return Attempt(
        intent=purchase.intent,
        authorization=authorization,
        method=purchase.method,
        url=purchase.url,
        fingerprint=purchase.fingerprint,
        dialect=challenge.dialect,
        template=_template(offer, authorization),
        worker=payer.worker,
        labels=purchase.labels,
    )


def _template(offer: Offer, authorization: Authorization) -> Mapping[str, Any]:
    """The payment message in the challenge's own dialect, but for its payload."""
    challenge, chosen = offer.challenge, offer.requirements
    if challenge.dialect is not Dialect.V2:
        return {"x402Version": 1, "scheme": chosen.scheme, "network": chosen.network}
    message: dict[str, Any] = {"x402Version": 2, "accepted": chosen.raw}
    if challenge.resource is not None:
        message["resource"] = challenge.resource
    if challenge.extensions is not None:
        message["extensions"] = _identified(challenge.extensions, authorization)
    return message


def _identified(extensions: Mapping[str, Any], authorization: Authorization) -> Mapping[str, Any]:
    """The extensions as offered; where the server can tell a replay by an id, with ours.

    x402 v2, extension `payment-identifier`: 16 to 128 of `[A-Za-z0-9_-]`. Made from the nonce, so
    that it is the same for the same purchase.
    """
    offered = extensions.get(_IDENTIFIER)
    if not isinstance(offered, dict):
        return extensions
    info = offered.get("info")
    identified = (info if isinstance(info, dict) else {}) | {
        "id": f"x402sms_{authorization.nonce.hex()}"
    }
    return {**extensions, _IDENTIFIER: {**offered, "info": identified}}


def _check_clock(max_skew: int | None, server_time: int | None, now: int) -> None:
    """A clock that is off signs a window that is over, or one far longer than was meant."""
    if max_skew is None or server_time is None or abs(now - server_time) <= max_skew:
        return
    seconds = now - server_time
    minutes, rest = divmod(abs(seconds), 60)
    raise ClockSkew(
        f"nothing signed: this machine's clock is {minutes} min {rest} s "
        f"{'ahead of' if seconds > 0 else 'behind'} the server's, and a payment is signed for a "
        "window of time; set this clock (timedatectl set-ntp true), or pass max_clock_skew=None "
        "if it is the server's that is wrong",
        seconds=seconds,
    )
