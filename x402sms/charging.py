"""Buying from an account's balance, as a generator of effects: written down, asked for once.

    known under its intent: charged → that order; in doubt → look for it (`looking.py`)
    else: its price is within the limits → written down → POST, once
        an order       → it is this purchase's; what it cost is in the receipt
        a clear no     → nothing was charged
        anything else  → in doubt: look for it, and ask again only if it is known not to be there

The `Idempotency-Key` is made from the intent: a service that honours it answers a second POST,
from a machine that knows nothing of the first, with the first one's order.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import unquote

import httpx

from x402sms.account_books import AccountBooks, Ceiling, charged_atomic, identify
from x402sms.errors import (
    APIError,
    HostNotReachable,
    NoCodeReceived,
    NoStock,
    PaymentUnknown,
    SpendLimitExceeded,
    X402SMSError,
)
from x402sms.exchange import result_of
from x402sms.ledger import Charge
from x402sms.ledger.charges import refuse_other
from x402sms.limits import MOST_ATOMIC, Amount
from x402sms.looking import what_came_of
from x402sms.money import parse_usdc, to_usdc, usdc
from x402sms.ordering import Ask, Effect, Fetch, InLedger
from x402sms.protocol.labels import labels_text
from x402sms.protocol.types import PaymentState
from x402sms.purchase import EXTENSION
from x402sms.text import one_line
from x402sms.virtualsms import calls
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.models import Cancellation, Offer, Order

# Timed out there; the same request is in progress; the idempotency key was used before.
_UNCLEAR = (408, 409, 422)

Bought = Generator[Effect, Any, Order]


def charge_order(
    books: AccountBooks, call: Call[Order], request: httpx.Request, max_price: Amount | None
) -> Bought:
    """The order that `request`, built from `call`, buys, or that was bought under its intent.

    Raises SpendLimitExceeded and IntentConflict with nothing bought; PaymentUnknown where it is
    not known whether something was; APIError, HostNotReachable where nothing was.
    """
    ceiling = Ceiling.of(books.limits, max_price)
    charge = _charge(books, call, request)
    earlier: Charge | None = yield InLedger(partial(books.get, charge.intent))
    if earlier is not None and earlier.state is not PaymentState.VOID:
        found = yield from _of_earlier(books, earlier, charge, call, request, ceiling=ceiling)
        if found is not None:
            return found
    before: Decimal | None = None
    expected: Decimal | None = None
    if _is_order(request):
        expected = yield from _expected_price(call)
        if expected is not None:
            ceiling.check(expected, charge.intent)
    else:
        before = yield from _price_so_far(request, max_price)
    charge = replace(charge, amount_atomic=_to_reserve(expected, ceiling))
    quicker: Charge | None = yield InLedger(partial(books.ask, charge))
    if quicker is not None:  # another process
        found = yield from _of_earlier(books, quicker, charge, call, request, ceiling=ceiling)
        if found is None:
            raise _in_doubt(books, quicker)
        return found
    charge = (yield InLedger(partial(books.get, charge.intent))) or charge
    if not _is_order(request):
        return (yield from _extend_once(books, charge, call, request, before))
    return (yield from _ask_once(books, charge, call, request, ceiling))


def _charge(books: AccountBooks, call: Call[Order], request: httpx.Request) -> Charge:
    purchase = identify(request)
    return Charge(
        account=books.key.account,
        intent=purchase.intent,
        what=request.extensions[EXTENSION].get("purchase") or _what(call),
        url=purchase.url,
        amount_atomic=0,
        worker=books.worker,
        labels=labels_text(purchase.labels),
    )


def _what(call: Call[Order]) -> str:
    """In words, the same for the same purchase."""
    asked = call.json or {}
    return f"POST {call.path} " + " ".join(f"{name}={asked[name]}" for name in sorted(asked))


def _is_order(request: httpx.Request) -> bool:
    """An order of its own; else more hours of one."""
    return request.url.path.endswith("/orders")


def _to_reserve(expected: Decimal | None, ceiling: Ceiling) -> int:
    """What counts against the budgets until the real price is known."""
    if expected is not None:
        return charged_atomic(expected)
    return 0 if ceiling.atomic == MOST_ATOMIC else charged_atomic(to_usdc(ceiling.atomic))


def _expected_price(call: Call[Order]) -> Generator[Effect, Any, Decimal | None]:
    """USDC by the list, which costs nothing to read. None for a rental: the list does not say."""
    asked = call.json or {}
    if "service" not in asked or "rental_hours" in asked:
        return None
    offers: Sequence[Offer] = yield Ask(calls.service_availability(asked["service"]))
    return next((each.price for each in offers if each.country == asked["country"]), None)


def _ask_once(
    books: AccountBooks,
    charge: Charge,
    call: Call[Order],
    request: httpx.Request,
    ceiling: Ceiling,
) -> Bought:
    try:
        response: httpx.Response = yield Fetch(request)
        order = result_of(call, response)
    except X402SMSError as error:
        if _is_a_no(error):
            yield InLedger(partial(books.void, charge))
            raise
        came = yield from what_came_of(books, charge, call)
        if came.order is None:
            raise _in_doubt(books, charge, error, came.hint) from error
        yield from _give_back_if_too_dear(books, charge, came.order, ceiling)
        return came.order
    if not (yield InLedger(partial(books.settle, charge, order.price, order.order_id))):
        taken = f"the order {_named(order)} that was answered is another purchase's already"
        raise _in_doubt(books, charge, X402SMSError(taken))
    books.tell(charge, order.price)
    yield from _give_back_if_too_dear(books, charge, order, ceiling)
    return order


def _price_so_far(
    request: httpx.Request, max_price: Amount | None
) -> Generator[Effect, Any, Decimal | None]:
    """USDC of a rental before it is extended: what more hours cost is told only afterwards."""
    if max_price is not None:
        raise SpendLimitExceeded(
            "nothing bought: with an API key the price of more hours is told only after they are "
            "bought, so no ceiling can hold; leave out max_price (a job has one: there it is "
            "`sms.orders.extend`), or pay per call from a wallet",
            limit="max_amount",
            allowed=to_usdc(parse_usdc(max_price)),
        )
    order: Order = yield Ask(calls.get_order(_rental_in(request)))
    return order.price


def _rental_in(request: httpx.Request) -> str:
    return unquote(request.url.raw_path.decode("ascii").split("/")[-2])


def _extend_once(
    books: AccountBooks,
    charge: Charge,
    call: Call[Order],
    request: httpx.Request,
    before: Decimal | None,
) -> Bought:
    """Lost, its answer leaves a doubt: an order does not say what its hours were bought with."""
    try:
        response: httpx.Response = yield Fetch(request)
        order = result_of(call, response)
    except X402SMSError as error:
        if not _is_a_no(error):
            raise _in_doubt(books, charge, error) from error
        yield InLedger(partial(books.void, charge))
        raise
    # Some answers may name the price of these hours alone: less than before is no difference.
    price: Decimal | None = None
    reason: str | None = "the service does not say what it cost"
    if before is not None and order.price is not None and order.price >= before:
        price, reason = order.price - before, None
    yield InLedger(partial(books.settle, charge, price, None))
    books.tell(charge, price, reason)
    return order


def _is_a_no(error: X402SMSError) -> bool:
    """Whether it is certain that nothing was bought."""
    if isinstance(error, HostNotReachable | NoStock):
        return True
    status = error.status_code if isinstance(error, APIError) else None
    return status is not None and 400 <= status < 500 and status not in _UNCLEAR


def _of_earlier(
    books: AccountBooks,
    earlier: Charge,
    charge: Charge,
    call: Call[Order],
    request: httpx.Request,
    *,
    ceiling: Ceiling,
) -> Generator[Effect, Any, Order | None]:
    """What was bought under the intent before. None: nothing was, by the service's own list."""
    refuse_other(earlier, charge)
    if earlier.state is PaymentState.SETTLED:
        order: Order = yield Ask(calls.get_order(earlier.order_id or _rental_in(request)))
        return order
    if not _is_order(request):
        raise _in_doubt(books, earlier)
    came = yield from what_came_of(books, earlier, call)
    if came.order is not None:
        yield from _give_back_if_too_dear(books, earlier, came.order, ceiling)
        return came.order
    if not came.is_nothing or not (yield InLedger(partial(books.void, earlier))):
        raise _in_doubt(books, earlier, hint=came.hint)
    books.tell(earlier, None, "nothing came of it", state=PaymentState.VOID)
    return None


def _give_back_if_too_dear(
    books: AccountBooks, charge: Charge, order: Order, ceiling: Ceiling
) -> Generator[Effect, Any, None]:
    """Bought dearer than its listed price allowed for: cancelled, and told. One that has its SMS
    is kept: nothing would come back."""
    if order.price is None or order.price <= to_usdc(ceiling.atomic) or order.has_sms:
        return
    price, order_id = order.price, _named(order)
    too_dear = (
        f"the order {order_id} was charged {usdc(price)} USDC, more than the {ceiling.limit} of "
        f"{usdc(to_usdc(ceiling.atomic))}"
    )
    try:
        cancelled: Cancellation = yield Ask(calls.cancel_order(order.order_id))
    except (X402SMSError, ValueError) as error:  # ValueError: an id that no call can name
        raise NoCodeReceived(
            f"{too_dear}, and could not be cancelled yet ({one_line(str(error), 300)}): try "
            f"`x402sms orders cancel {order_id}`",
            order_id=order.order_id,
            cancelled=False,
            cost=price,
        ) from error
    refund = price if cancelled.refund_amount is None else min(price, cancelled.refund_amount)
    books.tell(charge, price - refund, f"too dear: cancelled for its refund of {usdc(refund)}")
    raise NoCodeReceived(
        f"{too_dear}, so it was cancelled for its refund of {usdc(refund)} USDC (intent "
        f"{charge.intent!r})",
        order_id=order.order_id,
        cancelled=True,
        refunded=refund,
        cost=price - refund,
    )


def _named(order: Order) -> str:
    """An id as it may be shown: it is the service's own text."""
    return one_line(order.order_id, 60)


_LOOK = (
    "The same again with that intent looks for the order, and buys one only where it is known that "
    "none came of the first. See also `x402sms orders list`: where it is not there, minutes later, "
    "another intent buys anew"
)


def _in_doubt(
    books: AccountBooks, charge: Charge, error: X402SMSError | None = None, hint: str = ""
) -> PaymentUnknown:
    """What may have been bought counts as bought, until it is known."""
    books.tell(charge, None, "no answer says whether it was bought", state=PaymentState.UNKNOWN)
    why = "it was asked for before, and no answer came" if error is None else str(error)
    return PaymentUnknown(
        f"it is not known whether {charge.what} was bought from the balance under the intent "
        f"{charge.intent!r} ({one_line(why, 300)}{hint}). {_LOOK}",
        intent=charge.intent,
        amount=to_usdc(charge.amount_atomic) if charge.amount_atomic else None,
    )
