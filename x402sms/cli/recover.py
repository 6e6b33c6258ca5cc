"""`x402sms recover`: what a crash left, brought to an end as far as it can be."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from x402sms.cli.asking import agreed, can_ask
from x402sms.cli.command import command
from x402sms.cli.failures import SERVICE, UNKNOWN, exit_code
from x402sms.cli.options import EVERYTHING, Yes
from x402sms.cli.output import Output, cell
from x402sms.cli.receipts import payment_document, short, total
from x402sms.cli.reconciling import ask_chain, finding_document
from x402sms.cli.run import Run
from x402sms.cli.topup import finishing
from x402sms.errors import APIError, CooldownActive, X402SMSError
from x402sms.money import usdc

if TYPE_CHECKING:
    from x402sms.ledger import Payment
    from x402sms.reconcile import Finding
    from x402sms.virtualsms.models import Order, SmsResult

# Nothing that can still be open is older: no number is sold for longer.
HORIZON = timedelta(days=31)
# A rental is held for at least 4 hours, any other number for minutes.
SHORTEST_RENTAL = timedelta(hours=4)

Fate = Literal["confirmed", "cancelled", "left alone", "left open", "failed"]


@dataclass(frozen=True, slots=True)
class Purchase:
    """A purchase that brought nothing so far: `order` is what it did bring, if that was found."""

    payment: "Payment"
    order: "Order | None"

    @property
    def is_lost(self) -> bool:
        return self.order is None and self.payment.state == "settled"

    def document(self) -> dict[str, Any]:
        found = None if self.order is None else self.order.order_id
        return {"order_id": found, "payment": payment_document(self.payment)}

    def line(self) -> str:
        bought = f"purchase {short(self.payment.nonce)}: {usdc(self.payment.amount)} USDC"
        if self.order is not None:
            return f"{bought} bought {_name(self.order)}; the ledger has it now"
        if self.is_lost:
            return (
                f"{bought} paid, and no order of it was found: show the service the transaction "
                f"{self.payment.transaction}"
            )
        return f"{bought} {self.payment.state}, and no order of it was found"


@dataclass(frozen=True, slots=True)
class Ended:
    """An order that was open, and what was done about it."""

    order: "Order"
    fate: Fate
    why: str
    code: str | None = None
    text: str | None = None
    refund: Decimal | None = None
    error: X402SMSError | None = None

    @property
    def is_open(self) -> bool:
        return self.fate in ("left open", "failed")

    def document(self) -> dict[str, Any]:
        return {
            "order_id": self.order.order_id,
            "phone_number": self.order.phone_number,
            "service": self.order.service,
            "country": self.order.country,
            "done": self.fate,
            "why": self.why,
            "code": self.code,
            "text": self.text,
            "refund": self.refund,
        }

    def line(self) -> str:
        return f"{_name(self.order)}: {self.fate}, {self.why}"


@dataclass
class Recovery:
    """What was found and done. `checked`: by the chain; `unchecked`: open, and no RPC is named.

    `failed` is why the orders could not be looked at.
    """

    checked: "list[Finding]" = field(default_factory=list)
    unchecked: "list[Payment]" = field(default_factory=list)
    purchases: list[Purchase] = field(default_factory=list)
    orders: list[Ended] = field(default_factory=list)
    made: "Sequence[Payment]" = ()
    failed: X402SMSError | None = None

    @property
    def exit_code(self) -> int:
        errors = [exit_code(ended.error) for ended in self.orders if ended.error is not None]
        if self.unchecked or self._unproven or UNKNOWN in errors:
            return UNKNOWN
        if self.failed is not None:
            return exit_code(self.failed)
        left = [*filter(_is_lost, self.purchases), *filter(_is_open, self.orders)]
        return SERVICE if left else 0

    @property
    def _unproven(self) -> bool:
        """Settled by the server's word, and the chain not read: as good as without an RPC."""
        return any(
            not found.verdict.is_proof
            and not (found.verdict == "unread" and found.payment.state == "settled")
            for found in self.checked
        )

    def document(self) -> dict[str, Any]:
        return {
            "checked": [finding_document(finding) for finding in self.checked],
            "unchecked": [payment_document(payment) for payment in self.unchecked],
            "purchases": [purchase.document() for purchase in self.purchases],
            "orders": [ended.document() for ended in self.orders],
            "failed": None if self.failed is None else str(self.failed),
            "total": total(self.made),
            "payments": [payment_document(payment) for payment in self.made],
        }


def register(app: typer.Typer) -> None:
    command(
        app,
        "recover",
        show=_show,
        options=EVERYTHING,
        itemised=True,
        status=lambda recovery: recovery.exit_code,
        example="x402sms recover\nx402sms recover --yes --json",
    )(recover)


def recover(
    run: Run,
    *,
    yes: Yes = False,
    limit: Annotated[
        int, typer.Option(min=1, metavar="N", help="Look at so many orders; 50 to a paid call.")
    ] = 200,
) -> Recovery:
    """Bring to an end what a crash left: payments, purchases and orders.

    Payments are settled or void by the chain's proof (with an RPC). Orders that were paid for
    while the answer was lost are found. An order with an SMS is confirmed, its code printed; one
    that waits is cancelled for its refund: also one that another program of yours still waits
    for, so it asks first. Rentals are left alone.
    """
    _ = run.client  # whatever is wrong with the settings is said before anything is done
    recovery = Recovery()
    _check_payments(run, recovery)
    try:
        orders = _orders(run, limit)
    except X402SMSError as error:  # what became of the payments is worth telling all the same
        recovery.failed = error
        _say(run.out, f"orders: not looked at, {error}")
        orders = []
    else:
        _find_purchases(run, recovery, orders)
    for order in orders:
        if not order.is_final:
            recovery.orders.append(_end(run, order, yes=yes))
            _say(run.out, recovery.orders[-1].line())
    recovery.made = run.made
    return recovery


def _check_payments(run: Run, recovery: Recovery) -> None:
    if run.settings.rpc_url is None:
        recovery.unchecked = [
            payment for payment in run.ledger.payments() if not payment.state.is_final
        ][::-1]
        for payment in recovery.unchecked:
            _say(
                run.out,
                f"payment {short(payment.nonce)}: {usdc(payment.amount)} USDC {payment.state}; set "
                "X402SMS_RPC_URL to have the chain asked",
            )
            _say_of_a_topup(run, payment)
        return
    recovery.checked = list(ask_chain(run).findings)
    for found in recovery.checked:
        payment = found.payment
        what = f"payment {short(payment.nonce)}: {usdc(payment.amount)} USDC"
        _say(run.out, f"{what} {found.verdict}, {found.why}")
        if found.payment.state != "void":
            _say_of_a_topup(run, payment)


def _say_of_a_topup(run: Run, payment: "Payment") -> None:
    """Its key is not to be had by looking: the service answers it to that payment alone."""
    if (finish := finishing(run, payment)) is not None:
        _say(run.out, f"payment {short(payment.nonce)}: {finish}")


def _orders(run: Run, limit: int) -> "list[Order]":
    """The orders that may be open or lost, newest first. Paid calls."""
    from x402sms.recovery import not_older, since

    lost = _undelivered(run)
    earliest = datetime.now(UTC) - HORIZON
    if lost:
        earliest = min(earliest, since(lost))
    recent = takewhile(lambda order: not_older(order, earliest), run.client.orders.list())
    orders = list(islice(recent, limit))
    if len(orders) == limit:
        run.out.note(f"looked at the newest {limit} orders only: --limit N looks at more")
    return orders


def _undelivered(run: Run) -> "list[Payment]":
    from x402sms.recovery import undelivered

    return undelivered(run.client.payments.list(), run.orders_url)


def _find_purchases(run: Run, recovery: Recovery, orders: "list[Order]") -> None:
    from x402sms.recovery import delivered_orders, match

    unused = {each.payment.nonce for each in recovery.checked if each.verdict == "open"}
    # An order goes to a purchase that is paid before it goes to one that may be.
    lost = sorted(_undelivered(run), key=lambda payment: payment.state != "settled")
    lost = [payment for payment in lost if payment.nonce not in unused]
    taken = delivered_orders(run.ledger.payments())
    found = match(lost, orders, taken, run.client.fingerprint)
    for payment in lost:
        order = found.get(payment.nonce)
        if order is not None:
            run.ledger.note_delivered(
                network=payment.network,
                payer=payment.payer,
                nonce=payment.nonce,
                what=order.order_id,
            )
        recovery.purchases.append(Purchase(payment, order))
        _say(run.out, recovery.purchases[-1].line())


def _end(run: Run, order: "Order", *, yes: bool) -> Ended:
    """One order; what goes wrong with it is no reason to leave the others."""
    try:
        if _is_rental(order):
            return Ended(order, "left alone", "a rental; `x402sms orders release` ends it")
        if order.has_sms:
            return _confirm(run, order)
        if order.cancel_available_at is None:
            order = run.client.orders.get(order.order_id)  # a row of a list says less
        if order.is_final:
            return Ended(order, "left alone", f"{order.status} by now")
        return _confirm(run, order) if order.has_sms else _cancel(run, order, yes=yes)
    except X402SMSError as error:
        return Ended(order, "failed", str(error), error=error)


def _confirm(run: Run, order: "Order", sms: "SmsResult | None" = None) -> Ended:
    sms = sms or run.client.orders.wait_for_sms(order.order_id, 0)
    newest = [*order.messages, *sms.messages]
    text = sms.text or (newest[-1].content if newest else None)
    received = f"code {sms.code}" if sms.code else f"SMS {text!r}"
    try:
        run.client.orders.confirm(order.order_id)
    except X402SMSError as error:
        why = f"{received}, but it could not be confirmed: {error}"
        return Ended(order, "failed", why, sms.code, text, error=error)
    return Ended(order, "confirmed", received, sms.code, text)


def _cancel(run: Run, order: "Order", *, yes: bool) -> Ended:
    why_not = _why_not(order, yes=yes)
    if why_not is not None:
        return Ended(order, "left open", why_not)
    try:
        cancellation = run.client.orders.cancel(order.order_id)
    except CooldownActive as error:
        when = "later" if error.retry_after is None else f"in {error.retry_after} s"
        return Ended(order, "left open", f"it can be cancelled {when}: run this again")
    except APIError:
        sms = run.client.orders.wait_for_sms(order.order_id, 0)  # did one come meanwhile?
        if sms.has_sms:
            return _confirm(run, order, sms)
        raise
    if not cancellation.success:
        return Ended(order, "failed", "the service did not cancel it, and does not say why")
    refund = cancellation.refund_amount
    said = "the service does not say what it refunds"
    why = said if refund is None else f"{usdc(refund)} USDC refunded"
    return Ended(order, "cancelled", why, refund=refund)


def _why_not(order: "Order", *, yes: bool) -> str | None:
    """Why an order that waits is not cancelled now; None where it is."""
    first = order.cancel_available_at
    if first is not None and first > datetime.now(UTC):
        return f"it can be cancelled from {cell(first)}: run this again then"
    if yes:
        return None
    if not can_ask():
        return "waiting for its SMS; `x402sms recover --yes` cancels it for the refund"
    return None if agreed(f"Cancel {_name(order)} for its refund?") else "you said no"


def _is_rental(order: "Order") -> bool:
    if order.rental_until is not None or (order.model_extra or {}).get("rental_hours"):
        return True
    if order.created_at is None or order.expires_at is None:
        return False
    return order.expires_at - order.created_at >= SHORTEST_RENTAL


def _is_open(ended: Ended) -> bool:
    return ended.is_open


def _is_lost(purchase: Purchase) -> bool:
    return purchase.is_lost


def _name(order: "Order") -> str:
    known = (order.phone_number, order.service, order.country)
    details = ", ".join(part for part in known if part)
    return f"order {order.order_id} ({details})" if details else f"order {order.order_id}"


def _say(out: Output, line: str) -> None:
    """At once, so that what was done is told even if the rest fails."""
    if not out.as_json:
        out.line(line)


def _show(out: Output, recovery: Recovery) -> None:
    left = recovery.exit_code
    nothing = not (recovery.checked or recovery.unchecked or recovery.purchases or recovery.orders)
    if nothing and not left:
        out.note("nothing was left open")
    elif left:
        out.note("not all of it is at an end: see above")
    else:
        out.note("nothing is left open")
