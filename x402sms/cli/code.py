"""`x402sms code`: the main job. The bare code on stdout, everything else on stderr."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from x402sms.cli.command import command
from x402sms.cli.failures import stopped_while_paying
from x402sms.cli.options import SERVICE, Intent, ServiceArgument
from x402sms.cli.output import Output, usdc
from x402sms.cli.progress import Progress
from x402sms.cli.receipts import payment_document, total
from x402sms.cli.resolve import country_code, near_services
from x402sms.cli.run import Run
from x402sms.errors import NoCodeReceived, X402SMSError

if TYPE_CHECKING:
    from x402sms.ledger import Payment
    from x402sms.virtualsms.models import Order, SmsResult
    from x402sms.virtualsms.verification import Cancelled, Code, Event


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. `code` is None where the SMS holds none; `price` is the number's."""

    code: str | None
    text: str | None
    order: "Order"
    price: Decimal | None
    payments: "list[Payment]"
    warnings: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "text": self.text,
            "phone_number": self.order.phone_number,
            "order_id": self.order.order_id,
            "country": self.order.country,
            "price": self.price,
            "total": total(self.payments),
            "payments": [payment_document(payment) for payment in self.payments],
            "warnings": self.warnings,
        }


@dataclass
class Journal:
    """Passes the job's events on, and keeps what must be known when the job is stopped."""

    progress: Progress
    order: "Order | None" = None
    sms: "SmsResult | None" = None
    cancelled: "Cancelled | None" = None

    def __call__(self, event: "Event") -> None:
        from x402sms.virtualsms import verification as job

        match event:
            case job.Bought(order):
                self.order = order
            case job.Received(sms):
                self.sms = sms
            case job.Cancelled():
                self.cancelled = event
            case _:
                pass
        self.progress(event)


def register(app: typer.Typer) -> None:
    command(
        app,
        "code",
        show=_show,
        options=SERVICE,
        itemised=True,
        example='x402sms code telegram --max-price 0.30\ncode="$(x402sms code telegram '
        '--max-price 0.30 --country GB)"',
    )(code)


def code(
    run: Run,
    service: ServiceArgument,
    *,
    max_price: Annotated[
        str, typer.Option(metavar="USD", help="The most that the number may cost.")
    ],
    country: Annotated[
        str | None,
        typer.Option(metavar="CC", help="Only a number of this country; else the cheapest."),
    ] = None,
    timeout: Annotated[
        int, typer.Option(min=1, metavar="S", help="Wait so many seconds for the SMS.")
    ] = 180,
    intent: Intent = None,
) -> Result:
    """Buy a number, wait for its SMS, print the code.

    Takes the cheapest number under the ceiling and prints it on stderr: type it in where your
    sign-up flow asks for one. The code alone goes to stdout (the SMS itself if it holds no
    code). If no SMS comes in time, or you press Ctrl-C, the order is cancelled for its refund.
    """
    from x402sms.money import parse_usdc, to_usdc

    ceiling = to_usdc(parse_usdc(max_price))  # refused before a lookup is paid for
    where = None if country is None else country_code(run, country)
    return receive(run, service, ceiling, country=where, timeout=timeout, intent=intent)


def receive(
    run: Run,
    service: str,
    max_price: Decimal,
    *,
    country: str | None = None,
    timeout: int = 180,
    intent: str | None = None,
) -> Result:
    """The job, shown on stderr as it goes; Ctrl-C and errors say what became of the order."""
    with Progress(run.out) as progress, near_services(run, service), _sigterm_as_ctrl_c():
        journal = Journal(progress)
        try:
            received = run.client.receive_code(
                service,
                max_price=max_price,
                on_event=journal,
                country=country,
                timeout=timeout,
                intent=intent,
            )
        except KeyboardInterrupt:
            return _stopped(journal, run)
        except NoCodeReceived:
            raise  # says itself what became of the order
        except X402SMSError as error:
            if journal.order is not None:
                fate = _fate(journal, journal.order.order_id)
                error.add_note(f"{fate[0].upper()}{fate[1:]}")
            raise
    return _result(received, run)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """A job that is ended from outside (a CI run out of time) gives its number back too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _result(received: "Code", run: Run) -> Result:
    return Result(
        received.code, received.text, received.order, received.price, run.made, received.warnings
    )


def _stopped(journal: Journal, run: Run) -> Result:
    """After Ctrl-C: the code if it was there already, else the error that says what happened."""
    order, sms = journal.order, journal.sms
    if order is None:
        from x402sms.protocol.types import PaymentState

        for payment in run.made:
            if payment.method == "POST" and payment.state is not PaymentState.VOID:
                raise stopped_while_paying(payment)
        raise NoCodeReceived("stopped before a number was bought")
    if sms is not None:
        warning = f"stopped before the order {order.order_id} was confirmed"
        return Result(sms.code, sms.text, order, order.price, run.made, (warning,))
    raise NoCodeReceived(
        f"stopped before an SMS came; {_fate(journal, order.order_id)}",
        order_id=order.order_id,
        cancelled=None if journal.cancelled is None else True,
    )


def _fate(journal: Journal, order_id: str) -> str:
    if journal.cancelled is None:
        return (
            f"the order {order_id} may still be open: cancel it for its refund with "
            f"`x402sms orders cancel {order_id}`"
        )
    refund = journal.cancelled.refund
    refunded = "" if refund is None else f", {usdc(refund)} USDC refunded"
    return f"the order {order_id} is cancelled{refunded}"


def _show(out: Output, result: Result) -> None:
    for warning in result.warnings:
        out.note(f"warning: {warning}")
    out.line(result.code or result.text or "")
