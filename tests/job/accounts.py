"""Do the client's words, its ledger and the sandbox's books agree?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

from tests.job.scene import Result, Scene
from x402sms.looking import ARRIVED_BY_NOW
from x402sms.money import to_usdc
from x402sms.protocol.types import PaymentState

NO_STOCK = 503
OPEN = (PaymentState.UNKNOWN, PaymentState.REFUSED, PaymentState.RESERVED)


@dataclass(frozen=True)
class Books:
    """In USDC. `idle` was promised, is not known to be void, and did not settle after all."""

    paid: Decimal
    refunded: Decimal
    idle: Decimal


def audited(scene: Scene) -> Books:
    """The ledger's rows beside the sandbox's payments, by nonce: what reconciling would find."""
    if scene.road == "rest":
        return _audited_account(scene)
    settled = {payment["nonce"]: payment for payment in scene.sandbox.payments()}
    assert len(settled) == len(scene.sandbox.payments()), "a nonce settled twice"
    rows = {row.nonce: row for row in scene.rows}
    assert settled.keys() <= rows.keys(), "the sandbox took what the ledger does not know"
    intents = Counter(rows[nonce].intent for nonce in settled)
    assert all(count == 1 for count in intents.values()), "an intent was paid for twice"

    known, promised, idle = Decimal(0), Decimal(0), Decimal(0)
    for nonce, row in rows.items():
        taken = settled.get(nonce)
        most = to_usdc(row.reserved_atomic)
        if row.state is PaymentState.VOID:
            assert taken is None, f"{row.url} is void, and settled"
            continue
        promised += most
        if row.state is PaymentState.SETTLED:
            assert taken is not None, f"{row.url} is settled, and the sandbox has no payment"
            assert int(taken["amount_atomic"]) == row.amount_atomic
            known += row.amount
        else:
            assert row.state in OPEN
            idle += row.amount - (Decimal(0) if taken is None else _amount(taken))
    paid, refunded = scene.books
    assert known <= paid <= promised, "what is paid is not within what was promised"
    return Books(paid, refunded, idle)


def _audited_account(scene: Scene) -> Books:
    """The ledger's charges beside the entries of the account, by order."""
    account = scene.sandbox.state.accounts.of_id(scene.sandbox.account)
    assert account is not None
    entries = [entry for entry in account.entries if entry.kind == "purchase"]
    bought = {entry.order_id: to_usdc(entry.amount_atomic) for entry in entries}
    assert len(bought) == len(entries), "an order was charged twice"
    settled = {
        each.order_id: to_usdc(each.amount_atomic)
        for each in scene.charges
        if each.state is PaymentState.SETTLED
    }
    assert settled.items() <= bought.items(), "charged by the ledger, and not by the account"
    unknown = [each for each in scene.charges if each.state is PaymentState.UNKNOWN]
    unmatched = sum((bought[order_id] for order_id in bought.keys() - settled.keys()), Decimal(0))
    assert len(bought) <= len(settled) + len(unknown), "charged for what nobody asked for"
    _asked_for_once(scene)
    paid, refunded = scene.books
    assert paid == sum(bought.values())
    idle = sum((to_usdc(each.amount_atomic) for each in unknown), Decimal(0)) - unmatched
    return Books(paid, refunded, idle)


def _asked_for_once(scene: Scene) -> None:
    """What was sent and may have been carried out was not sent again, under the same name, while
    that may still have been so."""
    doubtful: dict[str, float] = {}
    for sent in scene.wire:
        if sent.purchase is None:
            continue
        at = doubtful.get(sent.purchase)
        assert at is None or sent.at - at >= ARRIVED_BY_NOW, f"{sent}: again"
        if sent.status is None or not (400 <= sent.status < 500 or sent.status == NO_STOCK):
            doubtful[sent.purchase] = sent.at


def adds_up(scene: Scene, result: Result) -> Books:
    """`audited`, and the cost that the client tells is right but for what is still open."""
    books = audited(scene)
    assert result.refunded <= books.refunded
    told = result.cost - books.idle
    assert told == books.paid - result.refunded, f"{told} told, {books} in the books"
    return books


def closed(scene: Scene, result: Result) -> Books:
    """`adds_up`, every refund is known, and no order is left waiting."""
    books = adds_up(scene, result)
    assert result.refunded == books.refunded
    assert "waiting" not in scene.orders
    return books


def exact(scene: Scene, result: Result) -> None:
    """`closed`, and no payment is open: what is told is what the books say, to the last unit."""
    books = closed(scene, result)
    assert books.idle == 0
    assert result.cost == books.paid - books.refunded


def _amount(payment: dict[str, object]) -> Decimal:
    return to_usdc(int(str(payment["amount_atomic"])))
