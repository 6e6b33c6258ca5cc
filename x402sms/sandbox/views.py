"""Orders as the API shows them."""

from __future__ import annotations

from x402sms.money import format_usdc
from x402sms.sandbox.models import MessageOut, OrderOut, OrderRow, RulesOut, SmsOut, moment
from x402sms.sandbox.orders import Order, Status


def order_out(order: Order, cooldown: int) -> OrderOut:
    """The full order; `cooldown` in seconds."""
    return OrderOut(
        order_id=order.order_id,
        phone_number=order.phone_number,
        previous_number=order.previous_number,
        service=order.service.id,
        country=order.country.iso2,
        price=format_usdc(order.price_atomic),
        status=order.status,
        created_at=moment(order.created_at),
        expires_at=moment(order.expires_at),
        cancel_available_at=moment(order.created_at + cooldown),
        swap_available_at=moment(order.number_since + cooldown),
        rules=RulesOut(cancel_cooldown_seconds=cooldown, swap_cooldown_seconds=cooldown),
        rental_hours=order.rental_hours,
        rental_until=None if order.rental_hours is None else moment(order.expires_at),
        sms_received=bool(order.messages),
        messages=messages_out(order),
    )


def order_row(order: Order) -> OrderRow:
    return OrderRow(
        id=order.order_id,
        service_id=order.service.id,
        country_id=order.country.iso2,
        price_charged=format_usdc(order.price_atomic),
        phone_number=order.phone_number,
        status=order.status,
        created_at=moment(order.created_at),
        expires_at=moment(order.expires_at),
    )


def messages_out(order: Order, *, reordered: bool = False) -> list[MessageOut]:
    """Oldest first, unless reordered."""
    messages = order.messages[::-1] if reordered else order.messages
    return [
        MessageOut(
            sender=sms.sender,
            content=sms.content,
            received_at=moment(sms.received_at),
            phone_number=sms.phone_number,
        )
        for sms in messages
    ]


def sms_out(order: Order, *, reordered: bool = False) -> SmsOut:
    """What a poll answers now: received, still waiting, or how the order ended without an SMS."""
    newest = order.newest
    if newest is not None and reordered:
        newest = order.messages[0]
    if newest is None:
        ended = order.status in {Status.CANCELLED, Status.COMPLETED, Status.CONFIRMED}
        status = order.status if ended else Status.WAITING
        return SmsOut(status=status, code=None, full_text=None, messages=[])
    return SmsOut(
        status=Status.RECEIVED,
        code=newest.code,
        full_text=newest.content,
        messages=messages_out(order, reordered=reordered),
    )
