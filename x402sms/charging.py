"""Buying from an account's balance, as a generator of effects: written down, asked for once.

    known under its intent: charged → that order; in doubt → look for it in GET /orders
    else: its price is within the limits → written down → POST, once
        an order       → it is this purchase's; what it cost is in the receipt
        a clear no     → nothing was charged
        anything else  → in doubt: look for it in GET /orders, never ask again

The `Idempotency-Key` is made from the intent: a service that honours it answers a second POST,
from a machine that knows nothing of the first, with the first one's order.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import unquote

import httpx

from x402sms.account_books import AccountBooks, Ceiling, identify
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
from x402sms.limits import MOST_ATOMIC, Amount
from x402sms.money import parse_usdc, to_usdc, usdc
from x402sms.ordering import Ask, Effect, Fetch, InLedger, orders_since
from x402sms.protocol.types import PaymentState
from x402sms.purchase import EXTENSION
from x402sms.recovery import not_older
from x402sms.text import one_line
from x402sms.virtualsms import calls
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.models import Offer, Order

# The service's clock may be this much behind ours, and an order is as old as what asked for it. An
# order that is older, and that no purchase of ours is known to have brought, leaves a doubt.
SLACK = timedelta(seconds=120)
DOUBT = timedelta(hours=1)
# A request that was sent so long ago is not on its way any more.
ARRIVED_BY_NOW = 300  # seconds
_UNCLEAR = (408, 409)  # timed out there, or the same request is in progress

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
    before: Decimal | None = None
    if earlier is None or earlier.state is PaymentState.VOID:
        if _is_order(request):
            expected = yield from _expected_price(call)
            if expected is not None:
                ceiling.check(expected, charge.intent)
            charge = replace(charge, amount_atomic=_to_reserve(expected, ceiling))
        else:
            before = yield from _price_so_far(request, max_price)
    earlier = yield InLedger(partial(books.ask, charge))
    if earlier is not None:
        found = yield from _of_earlier(books, earlier, call, request)
        if found is not None:
            return found
        earlier = yield InLedger(partial(books.ask, charge))
        if earlier is not None:  # another process was quicker
            raise _in_doubt(earlier)
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
        return parse_usdc(expected)
    return 0 if ceiling.atomic == MOST_ATOMIC else ceiling.atomic


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
        found = yield from _looked_for(books, charge, call, request, error)
        if found is None:
            raise _in_doubt(charge, error) from error
        return found
    if not (yield InLedger(partial(books.settle, charge, order.price, order.order_id))):
        raise PaymentUnknown(
            f"the order {order.order_id} that was answered is another purchase's already: what "
            f"this one bought, or whether it did, is not known. {_LOOK}",
            intent=charge.intent,
        )
    books.tell(charge, order.price)
    if order.price is not None and parse_usdc(order.price) > ceiling.atomic:
        yield from _give_back(order, ceiling, charge.intent)
    return order


def _price_so_far(
    request: httpx.Request, max_price: Amount | None
) -> Generator[Effect, Any, Decimal | None]:
    """USDC of a rental before it is extended: what more hours cost is told only afterwards."""
    if max_price is not None:
        raise SpendLimitExceeded(
            "nothing bought: with an API key the price of more hours is told only after they are "
            "bought, so no ceiling can hold; leave out max_price, or pay per call from a wallet",
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
            raise _in_doubt(charge, error) from error
        yield InLedger(partial(books.void, charge))
        raise
    known = before is not None and order.price is not None
    price = Decimal(0)
    if before is not None and order.price is not None:
        price = max(price, order.price - before)
    yield InLedger(partial(books.settle, charge, price, None))
    books.tell(charge, price, None if known else "the service does not say what it cost")
    return order


def _is_a_no(error: X402SMSError) -> bool:
    """Whether it is certain that nothing was bought."""
    if isinstance(error, HostNotReachable | NoStock):
        return True
    status = error.status_code if isinstance(error, APIError) else None
    return status is not None and 400 <= status < 500 and status not in _UNCLEAR


def _of_earlier(
    books: AccountBooks, charge: Charge, call: Call[Order], request: httpx.Request
) -> Generator[Effect, Any, Order | None]:
    """What was bought under the intent before. None: nothing was, by the service's own list."""
    if charge.state is PaymentState.SETTLED:
        order: Order = yield Ask(calls.get_order(charge.order_id or _rental_in(request)))
        return order
    if not _is_order(request):
        raise _in_doubt(charge)
    found = yield from _looked_for(books, charge, call, request, None)
    if found is not None:
        return found
    if books.now - charge.asked_at < ARRIVED_BY_NOW:
        raise _in_doubt(charge)
    yield InLedger(partial(books.void, charge))
    return None


def _looked_for(
    books: AccountBooks,
    charge: Charge,
    call: Call[Order],
    request: httpx.Request,
    lost: X402SMSError | None,
) -> Generator[Effect, Any, Order | None]:
    """The one order in `GET /orders` that it can have been. Two are one too many to tell."""
    asked: Charge = (yield InLedger(partial(books.get, charge.intent))) or charge
    asked_at = datetime.fromtimestamp(asked.asked_at, UTC)
    try:
        orders = yield from orders_since(asked_at - DOUBT)
    except X402SMSError as error:
        if lost is None:
            raise
        lost.add_note(f"looking for the order in GET /orders failed: {one_line(str(error), 300)}")
        return None
    taken: set[str] = yield InLedger(books.taken)
    fits = [each for each in orders if each.order_id not in taken and _fits(each, call)]
    if not fits:
        return None
    if len(fits) > 1 or not not_older(fits[0], asked_at - SLACK):
        named = ", ".join(each.order_id for each in fits[:5])
        raise _in_doubt(charge, lost, f"; it may be one of these orders: {named}") from lost
    order = fits[0]
    if not (yield InLedger(partial(books.settle, asked, order.price, order.order_id))):
        return None
    found = f"the answer was lost; found {order.order_id} in GET /orders"
    books.tell(asked, order.price, found)
    return order


def _fits(order: Order, call: Call[Order]) -> bool:
    asked = call.json or {}
    return (order.service or "").lower() == str(asked.get("service")).lower() and (
        order.country == asked.get("country") and order.created_at is not None
    )


def _give_back(order: Order, ceiling: Ceiling, intent: str) -> Generator[Effect, Any, None]:
    """Bought dearer than its listed price allowed for: cancelled, and told."""
    price, order_id = order.price or Decimal(0), order.order_id
    too_dear = (
        f"the order {order_id} was charged {usdc(price)} USDC, more than the {ceiling.limit} of "
        f"{usdc(to_usdc(ceiling.atomic))}"
    )
    try:
        cancelled = yield Ask(calls.cancel_order(order_id))
    except X402SMSError as error:
        raise NoCodeReceived(
            f"{too_dear}, and could not be cancelled yet ({one_line(str(error), 300)}): try "
            f"`x402sms orders cancel {order_id}`",
            order_id=order_id,
            cancelled=False,
            cost=price,
        ) from error
    raise NoCodeReceived(
        f"{too_dear}, so it was cancelled for its refund (intent {intent!r})",
        order_id=order_id,
        cancelled=True,
        refunded=cancelled.refund_amount,
        cost=Decimal(0),
    )


_LOOK = (
    "See `x402sms orders list`; the same again with that intent looks for the order and never buys "
    "a second one"
)


def _in_doubt(charge: Charge, error: X402SMSError | None = None, hint: str = "") -> PaymentUnknown:
    why = "it was asked for before, and no answer came" if error is None else str(error)
    doubt = PaymentUnknown(
        f"it is not known whether {charge.what} was bought from the balance under the intent "
        f"{charge.intent!r} ({one_line(why, 300)}{hint}). {_LOOK}",
        intent=charge.intent,
        amount=to_usdc(charge.amount_atomic) if charge.amount_atomic else None,
    )
    for note in getattr(error, "__notes__", ()):
        doubt.add_note(note)
    return doubt
