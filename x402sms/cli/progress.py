"""What the job is doing, on stderr: lines of what happened, and on a terminal one that lives.

The live line has the countdowns. It stays within the terminal's width, with room for the `^C`
that a terminal echoes: a line that wraps cannot be taken back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Self, assert_never

from x402sms.cli.output import Output
from x402sms.money import usdc

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live
    from rich.text import Text

    from x402sms.virtualsms.effects import (
        Bought,
        Cancelled,
        Chosen,
        Confirmed,
        Event,
        HeldBack,
        LeftOut,
        NotCancelled,
        Paused,
        Received,
        Swapped,
        Waiting,
    )
    from x402sms.virtualsms.models import Order

NUMBER_STYLE = "bold cyan"
WARNING_STYLE = "bold yellow"
CANCELS = "Ctrl-C cancels"
STOPS = "Ctrl-C stops"


class Progress:
    """Call it with the job's events. A context manager: leaving it takes the live line away.

    A job that `rents` keeps its number, also at Ctrl-C.
    """

    def __init__(self, out: Output, *, rents: bool = False) -> None:
        self._out = out
        self._rents = rents
        self._offered: Decimal | None = None
        self._has_number = False
        self.live_line = _LiveLine()
        self._live: Live | None = None
        self._stopping = False
        self._stopping_told = False
        self._waiting_told = False

    def interrupt(self) -> None:
        """Ctrl-C was pressed. This runs in a signal handler: the next event says what is done."""
        self._stopping = True
        again = "Ctrl-C again leaves it open" if self._has_number and not self._rents else ""
        self.live_line.stage = _Stage("stopping", (), again)

    def __call__(self, event: Event) -> None:
        from x402sms.virtualsms import effects

        if self._stopping and not self._stopping_told and not self._rents:
            self._stopping_told = True
            self._out.step("stopping", "what was bought is given back for its refund")
        if not isinstance(event, effects.Waiting):
            self._waiting_told = False
        match event:
            case effects.Chosen() | effects.LeftOut() | effects.Bought() | effects.Swapped():
                self._of_the_number(event)
            case effects.Waiting() | effects.Paused() | effects.HeldBack():
                self._of_time(event)
            case (
                effects.Received()
                | effects.Confirmed()
                | effects.Cancelled()
                | effects.NotCancelled()
            ):
                self._of_the_end(event)
            case _:
                assert_never(event)

    def _of_the_number(self, event: Chosen | LeftOut | Bought | Swapped) -> None:
        from x402sms.virtualsms import effects

        match event:
            case effects.Chosen(offer):
                self._out.step("cheapest", f"{offer.country or '?'}, {usdc(offer.price)} USDC")
                self._offered = offer.price
                self.working("buying the number")
            case effects.LeftOut(country, reason):
                self._out.step("left out", f"{country}: {reason}")
            case effects.Bought(order, resumed):
                self._bought(order, resumed=resumed)
            case effects.Swapped(order):
                number = order.phone_number or "(not told)"
                self._out.step("swapped", f"new number {number}", NUMBER_STYLE)

    def _of_time(self, event: Waiting | Paused | HeldBack) -> None:
        from x402sms.virtualsms import effects

        match event:
            case effects.Waiting(seconds, swap_in):
                self._waiting(seconds, swap_in)
            case effects.Paused(seconds, reason):
                self._out.step("paused", f"{seconds:g} s: {reason}")
                self.count_down("paused", ("tries again", seconds), hint=self._hint)
            case effects.HeldBack(order_id, seconds):
                wait = math.ceil(seconds)
                self._out.step("held back", f"order {order_id} can be cancelled in {wait} s")
                again = "again" if self._stopping else "twice"
                self.count_down("", ("cancels", seconds), hint=f"Ctrl-C {again} leaves it open")

    def _of_the_end(self, event: Received | Confirmed | Cancelled | NotCancelled) -> None:
        from x402sms.virtualsms import effects

        match event:
            case effects.Received(code, text):
                self._out.step("received", text or code or "an SMS without a text")
                self.working("confirming the order", "")
            case effects.Confirmed(order_id):
                self._out.step("confirmed", f"order {order_id}")
            case effects.Cancelled(order_id, refund):
                refunded = "" if refund is None else f", {usdc(refund)} USDC refunded"
                self._out.step("cancelled", f"order {order_id}{refunded}")
            case effects.NotCancelled(order_id, reason):
                text = f"order {order_id} is not cancelled: {reason}"
                self._out.step("failed", text, WARNING_STYLE)

    def working(self, what: str, hint: str = STOPS) -> None:
        """Something that has no time of its own; only a terminal is told."""
        self.count_down(what, hint=hint)

    def count_down(self, what: str, *times: tuple[str, float], hint: str = "") -> None:
        """The live line from now on: what is going on, and seconds until something happens."""
        now = monotonic()
        until = tuple((name, now + seconds) for name, seconds in times)
        self.live_line.stage = _Stage(what, until, hint)
        if self._live is not None:
            self._live.refresh()
        elif self._out.fancy_error:
            from rich.live import Live

            self._live = Live(
                self.live_line,
                console=self._out.error_console,
                refresh_per_second=8,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def _hint(self) -> str:
        if self._stopping:
            return ""
        return STOPS if self._rents else CANCELS

    def _bought(self, order: Order, *, resumed: bool) -> None:
        self._has_number = True
        self._out.step("number", order.phone_number or "(not told)", NUMBER_STYLE)
        known = [order.order_id]
        if order.price is not None and order.price != self._offered:
            known += [order.country or "?", f"{usdc(order.price)} USDC"]
        if resumed:
            known.append("bought by an earlier run")
        self._out.step("order", ", ".join(known))

    def _waiting(self, seconds: float, swap_in: float | None) -> None:
        """One line for all the polls of a number, where lines stay."""
        if not self._waiting_told and not self._out.fancy_error:
            more = "" if swap_in is None else f", for another number after {math.ceil(swap_in)} s"
            self._out.step("waiting", f"at most {math.ceil(seconds)} s{more}")
        self._waiting_told = True
        swap = [] if swap_in is None else [("new number", swap_in)]
        self.count_down("no SMS yet", *swap, ("gives up", seconds), hint=self._hint)


@dataclass(frozen=True, slots=True)
class _Stage:
    """`until`: what happens, and when by the clock that never goes back."""

    what: str
    until: tuple[tuple[str, float], ...]
    hint: str


class _LiveLine:
    """The live line: as much of its stage as there is room for."""

    FRAMES = ("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "-\\|/")  # the second where only ASCII can be shown
    ROOM = 3  # for ^C, and for the cursor

    def __init__(self) -> None:
        self.stage = _Stage("", (), "")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        now = monotonic()
        frames = self.FRAMES[options.ascii_only]
        frame = frames[int(now * 8) % len(frames)]
        room = options.max_width - self.ROOM
        for text in self._from_long_to_short(now, " - " if options.ascii_only else " · "):
            line = _styled((f"{frame} ", "cyan")) + text
            if line.cell_len <= room:
                break
        line.truncate(max(1, room))
        yield line

    def _from_long_to_short(self, now: float, separator: str) -> Iterator[Text]:
        stage = self.stage
        clocks = [(name, _clock(until - now)) for name, until in stage.until]
        named = [_styled((f"{name} in ", ""), (clock, "bold")) for name, clock in clocks]
        short = [_styled((f"{name} ", ""), (clock, "bold")) for name, clock in clocks]
        what = [_styled((stage.what, ""))] if stage.what else []
        hint = [_styled((stage.hint, "dim"))] if stage.hint else []
        bare = [_styled((clock, "bold")) for _, clock in clocks]
        between = _styled((separator, "dim"))
        for parts in (
            [*what, *named, *hint],
            [*named, *hint],
            [*what, *named],
            named,
            short,
            bare,
        ):
            if parts:
                yield between.join(parts)


def _styled(*parts: tuple[str, str]) -> Text:
    from rich.text import Text

    return Text.assemble(*parts, no_wrap=True, end="")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, math.ceil(seconds)), 60)
    return f"{minutes}:{rest:02}"
