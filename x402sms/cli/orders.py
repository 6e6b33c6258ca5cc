"""`x402sms orders ...`: one number at a time, by hand."""

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from x402sms.cli.command import command
from x402sms.cli.options import (
    SERVICE,
    CountryArgument,
    Intent,
    Limit,
    MaxPrice,
    OrderArgument,
    ServiceArgument,
)
from x402sms.cli.output import Output
from x402sms.cli.progress import Progress
from x402sms.cli.resolve import country_code, near_services
from x402sms.cli.run import Run
from x402sms.errors import NoCodeReceived

if TYPE_CHECKING:
    from x402sms.virtualsms.models import Cancellation, Order, SmsResult

_ORDER = "ord_6f1c9a02b7e4d583"  # as in the examples


def register(group: typer.Typer) -> None:
    command(
        group,
        "create",
        show=_show_order,
        options=SERVICE,
        example="x402sms orders create telegram GB --max-price 0.30",
    )(create)
    command(
        group,
        "list",
        show=_show_orders,
        options=SERVICE,
        example="x402sms orders list --status waiting",
    )(list_orders)
    command(
        group,
        "show",
        show=_show_order,
        options=SERVICE,
        example=f"x402sms orders show {_ORDER}",
    )(show)
    command(
        group,
        "wait",
        show=_show_sms,
        options=SERVICE,
        example=f"x402sms orders wait {_ORDER} --timeout 60",
    )(wait)
    command(
        group,
        "swap",
        show=_show_order,
        options=SERVICE,
        example=f"x402sms orders swap {_ORDER}",
    )(swap)
    command(
        group,
        "cancel",
        show=_show_cancellation,
        options=SERVICE,
        example=f"x402sms orders cancel {_ORDER}",
    )(cancel)
    command(
        group,
        "confirm",
        show=_show_order,
        options=SERVICE,
        example=f"x402sms orders confirm {_ORDER}",
    )(confirm)
    command(
        group,
        "extend",
        show=_show_order,
        options=SERVICE,
        example=f"x402sms orders extend {_ORDER} 24 --max-price 0.20",
    )(extend)
    command(
        group,
        "release",
        show=_show_order,
        options=SERVICE,
        example=f"x402sms orders release {_ORDER}",
    )(release)


def create(
    run: Run,
    service: ServiceArgument,
    country: CountryArgument,
    *,
    rental_hours: Annotated[
        int | None, typer.Option(min=1, metavar="H", help="Rent it: 4, 24, 72, 168 or 720 hours.")
    ] = None,
    max_price: MaxPrice = None,
    intent: Intent = None,
) -> "Order":
    """Buy a number. It is yours until it expires: wait for its SMS, or cancel it."""
    from x402sms.money import parse_usdc

    if max_price is not None:
        parse_usdc(max_price)  # refused before a lookup is paid for
    code = country_code(run, country)
    with near_services(run, service):
        return run.client.orders.create(
            service, code, rental_hours=rental_hours, max_price=max_price, intent=intent
        )


def list_orders(
    run: Run,
    status: Annotated[
        str | None, typer.Option(metavar="WORD", help="Only these: waiting, received, ...")
    ] = None,
    limit: Limit = 50,
) -> "list[Order]":
    """List active and recent orders."""
    return list(islice(run.client.orders.list(status=status), limit))


def show(run: Run, order_id: OrderArgument) -> "Order":
    """Show an order as it stands now, with its messages."""
    return run.client.orders.get(order_id)


def wait(
    run: Run,
    order_id: OrderArgument,
    timeout: Annotated[
        int, typer.Option(min=0, max=180, metavar="S", help="Wait so many seconds; 0 only looks.")
    ] = 180,
) -> "SmsResult":
    """Wait for an order's SMS and print the bare code. One paid call; the order stays open."""
    with Progress(run.out) as progress:
        if timeout:
            progress.count_down(
                "no SMS yet", ("ends", timeout), hint="Ctrl-C leaves the order open"
            )
        sms = run.client.orders.wait_for_sms(order_id, timeout)
    if not sms.has_sms:
        raise NoCodeReceived(
            f"no SMS within {timeout} s. The order {order_id} is {sms.status}: wait again, or "
            f"give it back with `x402sms orders cancel {order_id}`",
            order_id=order_id,
            cancelled=sms.status == "cancelled",
        )
    return sms


def swap(run: Run, order_id: OrderArgument) -> "Order":
    """Change the number of an order, free, while no SMS has come."""
    return run.client.orders.swap(order_id)


def cancel(run: Run, order_id: OrderArgument) -> "Cancellation":
    """Give a number back for a full refund, before an SMS arrives."""
    return run.client.orders.cancel(order_id)


def confirm(run: Run, order_id: OrderArgument) -> "Order":
    """Confirm an order whose SMS has come: the charge is final."""
    return run.client.orders.confirm(order_id)


def extend(
    run: Run,
    order_id: OrderArgument,
    hours: Annotated[int, typer.Argument(metavar="HOURS", min=1, help="So many more hours.")],
    max_price: MaxPrice = None,
    intent: Intent = None,
) -> "Order":
    """Buy more hours of a rental."""
    return run.client.orders.extend(order_id, hours, max_price=max_price, intent=intent)


def release(run: Run, order_id: OrderArgument) -> "Order":
    """End a rental early. Whether anything is refunded is the service's decision."""
    return run.client.orders.release(order_id)


def _show_order(out: Output, order: "Order") -> None:
    out.fields(
        (
            ("order", order.order_id),
            ("number", order.phone_number),
            ("before", order.previous_number),
            ("service", order.service),
            ("country", order.country),
            ("price", order.price),
            ("status", order.status),
            ("created", order.created_at),
            ("expires", order.expires_at),
            ("rented until", order.rental_until),
            ("cancel from", order.cancel_available_at),
            ("swap from", order.swap_available_at),
            *((f"SMS {at}", sms.content) for at, sms in enumerate(order.messages, 1)),
        )
    )


def _show_orders(out: Output, found: "list[Order]") -> None:
    out.table(
        ("order", "number", "service", "country", "USDC", "status"),
        ((o.order_id, o.phone_number, o.service, o.country, o.price, o.status) for o in found),
    )


def _show_sms(out: Output, sms: "SmsResult") -> None:
    newest = sms.messages[-1].content if sms.messages else ""
    out.line(sms.code or sms.text or newest)


def _show_cancellation(out: Output, cancellation: "Cancellation") -> None:
    out.fields((("status", cancellation.status), ("refund", cancellation.refund_amount)))
