"""What the job is doing, on stderr: a countdown on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self, assert_never

from x402sms.cli.output import Output, usdc

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from x402sms.virtualsms.verification import Event


class Progress:
    """Call it with the job's events. A context manager: leaving it ends the countdown."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._countdown: Live | None = None

    def __call__(self, event: Event) -> None:
        from x402sms.virtualsms import verification as job

        self.end_countdown()
        match event:
            case job.Chosen(offer):
                self._out.step("cheapest", f"{offer.country or '?'}, {usdc(offer.price)} USDC")
            case job.Bought(order):
                self._out.step("number", order.phone_number or "(not told)", "bold cyan")
                self._out.step("order", order.order_id)
            case job.Waiting(seconds):
                self.count_down("waiting for the SMS", seconds, "Ctrl-C cancels the order")
            case job.Received(sms):
                self._out.step("received", sms.text or sms.code or "")
            case job.HeldBack(order_id, seconds):
                self._out.step("held back", f"order {order_id} can be cancelled in {seconds:.0f} s")
                self.count_down("waiting to cancel", seconds, "Ctrl-C again leaves it open")
            case job.Cancelled(order_id, refund):
                refunded = "" if refund is None else f", {usdc(refund)} USDC refunded"
                self._out.step("cancelled", f"order {order_id}{refunded}")
            case _:
                assert_never(event)

    def count_down(self, what: str, seconds: float, hint: str = "") -> None:
        """A line that moves until the next event; into a pipe it is said once."""
        if not self._out.fancy_error:
            self._out.step("waiting", f"at most {math.ceil(seconds)} s")
            return
        from rich.live import Live

        countdown = _Countdown(what, seconds, hint)
        self._countdown = Live(
            get_renderable=countdown.render,
            console=self._out.error_console,
            refresh_per_second=10,
            transient=True,
        )
        self._countdown.start()

    def end_countdown(self) -> None:
        if self._countdown is not None:
            self._countdown.stop()
            self._countdown = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end_countdown()


class _Countdown:
    def __init__(self, what: str, seconds: float, hint: str) -> None:
        from rich.spinner import Spinner

        self._what = what
        self._hint = hint
        self._until = time.monotonic() + seconds
        self._spinner = Spinner("dots", style="cyan")

    def render(self) -> RenderableType:
        from rich.text import Text

        minutes, seconds = divmod(max(0, math.ceil(self._until - time.monotonic())), 60)
        self._spinner.update(
            text=Text.assemble(
                f"{self._what}  ", (f"{minutes}:{seconds:02}", "bold"), (f"  {self._hint}", "dim")
            )
        )
        return self._spinner
