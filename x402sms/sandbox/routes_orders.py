"""Buying a number, waiting for its SMS, and ending the order."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from x402sms.sandbox.bodies import read_body
from x402sms.sandbox.buyer import Buyer
from x402sms.sandbox.challenge import Price
from x402sms.sandbox.models import (
    CreateOrderIn,
    EndedOut,
    ExtendIn,
    OrderOut,
    OrderRow,
    PageOut,
    SmsOut,
)
from x402sms.sandbox.orders import Order, no_replacement, no_stock, refund_text
from x402sms.sandbox.paid import RESPONSES, PaidRoute, TheBuyer, TheCall, TheSandbox, costs
from x402sms.sandbox.payments import PaymentRecord
from x402sms.sandbox.places import Country
from x402sms.sandbox.polling import wait_for_sms
from x402sms.sandbox.problems import Problem, validation
from x402sms.sandbox.routes_account import PageNumber, PageSize, page_of
from x402sms.sandbox.routes_discovery import find_country, find_service
from x402sms.sandbox.state import Sandbox, call_of, sandbox_of
from x402sms.sandbox.views import order_out, order_row, sms_out
from x402sms.sandbox.words import Service

RENTAL_HOUR_ATOMIC = 5_000  # 0.005 USDC
UNKNOWN_STATUS = "in_review"
# An authorization has to outlive the longest poll, 180 s, and its settlement.
POLL_PRICE = Price(2_000, "Poll for an SMS", max_timeout=300, per_call=True)

router = APIRouter(route_class=PaidRoute, responses=RESPONSES, tags=["orders"])


async def quote_order(request: Request) -> Price:
    """The price of the number asked for; what cannot be priced or had is refused for nothing."""
    sandbox = sandbox_of(request)
    wanted = await read_body(request, CreateOrderIn.model_validate_json)
    service, country = _wanted(sandbox, wanted)
    catalogue, call = sandbox.catalogue, call_of(request.scope)
    if call.paid and call.strikes("stock-ends"):
        catalogue.set_stock(service, country, 0)
    asks = call.rest or not call.paid  # with a key, asking and buying are one
    short = asks and call.strikes("no-stock")
    if short or catalogue.stock(service, country) == 0:
        raise no_stock(service, country)
    price = catalogue.price_atomic(service, country)
    if asks:
        catalogue.quoted(service, country)
    price += (wanted.rental_hours or 0) * RENTAL_HOUR_ATOMIC
    return Price(price, f"A {service.name} number in {country.name}")


async def quote_extension(request: Request) -> Price:
    wanted = await read_body(request, ExtendIn.model_validate_json)
    return Price(wanted.hours * RENTAL_HOUR_ATOMIC, f"{wanted.hours} more rental hours")


async def quote_poll(request: Request) -> Price:
    return POLL_PRICE


@router.post("/orders")
@costs(quote_order)
async def create_order(wanted: CreateOrderIn, sandbox: TheSandbox, buyer: TheBuyer) -> OrderOut:
    service, country = _wanted(sandbox, wanted)
    order, undo = sandbox.orders.create(
        buyer.caller, service, country, buyer.price_atomic, wanted.rental_hours
    )

    async def opened(record: PaymentRecord) -> None:
        sandbox.orders.open(order, record)

    buyer.order_id = order.order_id
    buyer.undo.append(undo)
    buyer.on_settled.append(opened)
    return _full(sandbox, order)


@router.get("/orders")
async def list_orders(
    sandbox: TheSandbox, buyer: TheBuyer, page: PageNumber = 1, per_page: PageSize = 20
) -> PageOut[OrderRow]:
    rows = [order_row(order) for order in sandbox.orders.of(buyer.caller)]
    return page_of(rows, page, per_page)


@router.get("/orders/{order_id}")
async def get_order(order_id: str, sandbox: TheSandbox, buyer: TheBuyer, call: TheCall) -> OrderOut:
    order = _own(sandbox, order_id, buyer)
    shown = _full(sandbox, order)
    if call.strikes("reorder"):
        shown.messages.reverse()
    if call.strikes("unknown-status"):
        shown.status = UNKNOWN_STATUS
    return shown


@router.get("/orders/{order_id}/sms")
@costs(quote_poll)
async def poll_sms(
    order_id: str,
    request: Request,
    sandbox: TheSandbox,
    buyer: TheBuyer,
    timeout: Annotated[int, Query(ge=0, le=180)] = 0,  # noqa: ASYNC109  the API's own parameter
) -> SmsOut:
    """Answers at once without `timeout` (seconds), else as soon as there is an SMS."""
    order = _own(sandbox, order_id, buyer)
    await wait_for_sms(sandbox, order, timeout, request)
    answer = sms_out(order, reordered=call_of(request.scope).strikes("reorder"))
    buyer.undo.append(sandbox.orders.mark_read(order))
    return answer


@router.post("/orders/{order_id}/swap")
async def swap_order(
    order_id: str, sandbox: TheSandbox, buyer: TheBuyer, call: TheCall
) -> OrderOut:
    order = _own(sandbox, order_id, buyer)
    if call.strikes("swap-none"):
        raise no_replacement()
    buyer.undo.append(sandbox.orders.swap(order))
    _tell(sandbox, buyer, "order.swapped", order)
    return _full(sandbox, order)


@router.post("/orders/{order_id}/cancel")
async def cancel_order(
    order_id: str, sandbox: TheSandbox, buyer: TheBuyer, call: TheCall
) -> EndedOut:
    order = _own(sandbox, order_id, buyer)
    if call.strikes("sms-beats-cancel"):
        sandbox.orders.deliver_now(order)
    buyer.undo.append(sandbox.orders.cancel(order))

    async def refund(record: PaymentRecord) -> None:
        await sandbox.refund(order)

    buyer.on_settled.append(refund)
    _tell(sandbox, buyer, "order.cancelled", order)
    return _ended(order, refund_text(order))


@router.post("/orders/{order_id}/confirm")
async def confirm_order(
    order_id: str, sandbox: TheSandbox, buyer: TheBuyer, call: TheCall
) -> OrderOut:
    order = _own(sandbox, order_id, buyer)
    if call.strikes("confirm-fails"):
        raise Problem(500, "internal", "The order could not be confirmed")
    buyer.undo.append(sandbox.orders.confirm(order))
    _tell(sandbox, buyer, "order.confirmed", order)
    return _full(sandbox, order)


@router.post("/orders/{order_id}/extend")
@costs(quote_extension)
async def extend_order(
    order_id: str, wanted: ExtendIn, sandbox: TheSandbox, buyer: TheBuyer
) -> OrderOut:
    order = _own(sandbox, order_id, buyer)
    buyer.undo.append(sandbox.orders.extend(order, wanted.hours, buyer.price_atomic))

    async def charged(record: PaymentRecord) -> None:
        order.charges.append(record)

    buyer.on_settled.append(charged)
    return _full(sandbox, order)


@router.post("/orders/{order_id}/release")
async def release_order(order_id: str, sandbox: TheSandbox, buyer: TheBuyer) -> EndedOut:
    """Ends a rental early; the unused hours are not refunded."""
    order = _own(sandbox, order_id, buyer)
    buyer.undo.append(sandbox.orders.release(order))
    return _ended(order, "0.00")


def _own(sandbox: Sandbox, order_id: str, buyer: Buyer) -> Order:
    order = sandbox.orders.find(order_id, buyer.caller)
    buyer.order_id = order.order_id
    return order


def _tell(sandbox: Sandbox, buyer: Buyer, kind: str, order: Order) -> None:
    """There is an event once the call has settled."""

    async def happened(record: PaymentRecord) -> None:
        sandbox.happened(kind, order)

    buyer.on_settled.append(happened)


def _full(sandbox: Sandbox, order: Order) -> OrderOut:
    return order_out(order, sandbox.orders.cooldown)


def _ended(order: Order, refund_amount: str) -> EndedOut:
    return EndedOut(
        success=True, order_id=order.order_id, status=order.status, refund_amount=refund_amount
    )


def _wanted(sandbox: Sandbox, wanted: CreateOrderIn) -> tuple[Service, Country]:
    if wanted.service == "any" and wanted.rental_hours is None:
        raise validation("service: 'any' is for rentals; give rental_hours")
    return find_service(sandbox, wanted.service), find_country(sandbox, wanted.country)
