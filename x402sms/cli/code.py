"""`x402sms code`: the main job. The bare code on stdout, everything else on stderr."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Unpack

import typer

from x402sms.cli.command import command
from x402sms.cli.failures import stopped_while_charged, stopped_while_paying
from x402sms.cli.journal import Journal
from x402sms.cli.options import JOB, Intent
from x402sms.cli.output import Output
from x402sms.cli.progress import Progress
from x402sms.cli.receipts import payment_document
from x402sms.cli.run import Run
from x402sms.errors import NoCodeReceived

if TYPE_CHECKING:
    from x402sms.job_options import JobOptions
    from x402sms.ledger import Payment
    from x402sms.limits import Amount


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. `code` is None where the SMS holds none; `facts` are the journal's."""

    code: str | None
    text: str | None
    facts: dict[str, Any]
    payments: "list[Payment]"
    warnings: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "text": self.text,
            **self.facts,
            "payments": [payment_document(payment) for payment in self.payments],
            "warnings": self.warnings,
        }


def register(app: typer.Typer) -> None:
    command(
        app,
        "code",
        show=_show,
        options=JOB,
        itemised=True,
        example='x402sms code telegram --max-price 0.30\ncode="$(x402sms code telegram '
        '--max-price 0.30 --country GB)"\nx402sms code whatsapp --max-price 0.30 --intent '
        "signup-7 --json",
    )(code)


def code(
    run: Run,
    service: Annotated[
        str, typer.Argument(metavar="SERVICE", help="A service's id or name, such as telegram.")
    ],
    *,
    max_price: Annotated[
        str,
        typer.Option(
            metavar="USD", help="The most that a number, or any of the small calls, may cost."
        ),
    ],
    country: Annotated[
        str | None,
        typer.Option(
            metavar="COUNTRY",
            help="Only a number of this country, such as GB or Germany; else the cheapest.",
        ),
    ] = None,
    timeout: Annotated[
        int, typer.Option(min=1, metavar="S", help="Wait so many seconds for the SMS.")
    ] = 180,
    swap_after: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="S",
            help="Change a number that was silent for so many seconds: swap it, and after the "
            "last swap buy another. The service allows that after its hold, mostly 120 s.",
        ),
    ] = 120,
    max_swaps: Annotated[
        int, typer.Option(min=0, metavar="N", help="Swap so many times at most; a swap is free.")
    ] = 1,
    max_numbers: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Buy so many numbers at most, each after the last was refunded.",
        ),
    ] = 3,
    max_total: Annotated[
        str | None,
        typer.Option(
            metavar="USD",
            help="Buy the next number even if the refund of the last is not known, as long as "
            "what may be lost stays within this.",
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help="What the code looks like: its group 'code', or 1, or all of it."
        ),
    ] = None,
    rental_hours: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="H",
            help="Rent the number, for 4, 24, 72, 168 or 720 hours: it is kept, whatever comes.",
        ),
    ] = None,
    intent: Intent = None,
) -> Result:
    """Buy a number, wait for its SMS, print the code.

    Takes the cheapest number under the ceiling and prints it on stderr: type it in where your
    sign-up flow asks for one. A silent number is swapped, and you are told the new one. The code
    alone goes to stdout (the SMS itself if it holds no code). If no SMS comes in time, or you
    press Ctrl-C, the order is cancelled for its refund; a second Ctrl-C leaves it open. Run again
    with the same --intent, it goes on with the order that it has.
    """
    return receive(
        run,
        service,
        max_price,
        timeout=timeout,
        country=country,
        swap_after=swap_after,
        max_swaps=max_swaps,
        max_numbers=max_numbers,
        max_total=max_total,
        pattern=pattern,
        rental_hours=rental_hours,
        intent=intent,
    )


def receive(
    run: Run,
    service: str,
    max_price: "Amount",
    *,
    timeout: int = 180,
    **options: "Unpack[JobOptions]",
) -> Result:
    """The job, shown on stderr as it goes. However it ends, the run has its facts."""
    rents = options.get("rental_hours") is not None
    with Progress(run.out, rents=rents) as progress, _stoppable(progress.interrupt):
        journal = Journal(run, progress, rents=rents)
        options["on_event"] = journal
        job = run.client.verification(service, max_price=max_price, **options)
        progress.working("looking for the cheapest number")
        try:
            with journal.of(job):
                received = job.receive(timeout)
        except KeyboardInterrupt as stop:
            return _stopped(journal, run, stop)
    return Result(received.code, received.text, journal.facts(), run.made, received.warnings)


@contextmanager
def _stoppable(interrupt: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C, and being ended from outside (a CI run out of time), give the number back."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        interrupt()
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # a program in the background is not to hear of it
                signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stopped(journal: Journal, run: Run, stop: KeyboardInterrupt) -> Result:
    """After Ctrl-C: the code if it was there already, else the error that says what happened."""
    from x402sms.virtualsms.job import left_open

    number, received = journal.number, journal.received
    if received is not None and number is not None:
        warnings: tuple[str, ...] = ()
        if number.ended == "received":
            warnings = (f"stopped before the order {number.order.order_id} was confirmed",)
        return Result(received.code, received.text, journal.facts(), run.made, warnings)
    lost = [payment for payment in run.made if run.is_purchase(payment)]
    for payment in lost:
        if payment.delivered is None and payment.state != "void":
            raise stopped_while_paying(payment)
    for charge in run.charged:
        if charge.order_id is None:
            raise stopped_while_charged(charge)
    if number is None:
        raise NoCodeReceived("stopped before a number was bought")
    notes = list(dict.fromkeys(getattr(stop, "__notes__", ()))) or [left_open(number.order)]
    raise NoCodeReceived(
        f"stopped before an SMS came; {'; '.join(notes)}",
        order_id=number.order.order_id,
        cancelled=True if number.ended == "cancelled" else None,
    )


def _show(out: Output, result: Result) -> None:
    for warning in result.warnings:
        out.note(f"warning: {warning}")
    out.line(result.code or result.text or "")
