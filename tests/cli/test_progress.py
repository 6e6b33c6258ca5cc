"""Each event of a job as a line, and the live line in any width."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest
from rich.cells import cell_len
from rich.console import Console

from x402sms.cli.output import Output
from x402sms.cli.progress import Progress
from x402sms.virtualsms import effects
from x402sms.virtualsms.effects import Event
from x402sms.virtualsms.models import Offer, Order

ORDER = Order.model_validate(
    {"order_id": "ord_1", "status": "waiting", "phone_number": "447700900123", "country": "GB",
     "price": "0.05"}
)  # fmt: skip
OFFER = Offer.model_validate({"service": "telegram", "country": "GB", "price": "0.05", "stock": 3})
BARE = Order.model_validate({"order_id": "ord_1", "status": "waiting"})


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("x402sms.cli.progress.monotonic", lambda: 1000.0)


LINES = {
    "chosen": (effects.Chosen(OFFER), "cheapest   GB, 0.05 USDC\n"),
    "left-out": (effects.LeftOut("GB", "no stock"), "left out   GB: no stock\n"),
    "bought": (
        effects.Bought(ORDER),
        "number     +447700900123\norder      ord_1, GB, 0.05 USDC\n",
    ),
    "bought, little known": (effects.Bought(BARE), "number     (not told)\norder      ord_1\n"),
    "resumed": (
        effects.Bought(ORDER, resumed=True),
        "number     +447700900123\norder      ord_1, GB, 0.05 USDC, bought by an earlier run\n",
    ),
    "waiting": (effects.Waiting(179.4), "waiting    at most 180 s\n"),
    "waiting, to be swapped": (
        effects.Waiting(180, 119.9),
        "waiting    at most 180 s, for another number after 120 s\n",
    ),
    "swapped": (effects.Swapped(ORDER), "swapped    new number +447700900123\n"),
    "swapped, number not told": (effects.Swapped(BARE), "swapped    new number (not told)\n"),
    "paused": (effects.Paused(5.0, "too many requests"), "paused     5 s: too many requests\n"),
    "received": (effects.Received("1234", "Code:\n1234"), "received   Code: 1234\n"),
    "received, only the code": (effects.Received("1234", None), "received   1234\n"),
    "received, nothing": (effects.Received(None, None), "received   an SMS without a text\n"),
    "held-back": (
        effects.HeldBack("ord_1", 87.2),
        "held back  order ord_1 can be cancelled in 88 s\n",
    ),
    "cancelled": (
        effects.Cancelled("ord_1", Decimal("0.05")),
        "cancelled  order ord_1, 0.05 USDC refunded\n",
    ),
    "cancelled, refund not said": (
        effects.Cancelled("ord_1", None),
        "cancelled  order ord_1\n",
    ),
    "not-cancelled": (
        effects.NotCancelled("ord_1", "it has expired"),
        "failed     order ord_1 is not cancelled: it has expired\n",
    ),
    "confirmed": (effects.Confirmed("ord_1"), "confirmed  order ord_1\n"),
}


@pytest.mark.parametrize(("event", "line"), LINES.values(), ids=LINES)
def test_each_event_is_a_plain_line_in_a_pipe(
    event: Event, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(Output(as_json=False)) as progress:
        progress(event)
    assert capsys.readouterr() == ("", line)


def test_every_event_is_among_them() -> None:
    assert {type(event) for event, _ in LINES.values()} == set(Event.__args__)


def test_the_polls_of_one_number_are_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(Output(as_json=False)) as progress:
        for left in (180, 150, 120):
            progress(effects.Waiting(left))
        progress(effects.Swapped(ORDER))
        progress(effects.Waiting(60))
    assert capsys.readouterr().err.splitlines() == [
        "waiting    at most 180 s",
        "swapped    new number +447700900123",
        "waiting    at most 60 s",
    ]


def test_after_ctrl_c_the_next_event_says_what_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(Output(as_json=False)) as progress:
        progress.interrupt()
        progress(effects.HeldBack("ord_1", 3))
        progress(effects.Cancelled("ord_1", None))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "stopping   what was bought is given back for its refund"
    assert len(lines) == 3


def _shown(width: int, *events: Event, interrupted: bool = False, rents: bool = False) -> str:
    """The live line after `events`, on a terminal that wide."""
    out = Output(as_json=False)
    out.fancy_error = True
    screen = io.StringIO()
    out.error_console = Console(file=screen, width=width, force_terminal=True, no_color=True)
    with Progress(out, rents=rents) as progress:
        for event in events:
            progress(event)
        if interrupted:
            progress.interrupt()
        plain = Console(file=(line := io.StringIO()), width=width)
        plain.print(progress.live_line)
    return line.getvalue().rstrip("\n")


@pytest.mark.parametrize("event", [effects.Waiting(5999, 3599), effects.HeldBack("ord_1", 600)])
def test_the_live_line_leaves_room_at_any_width(event: Event) -> None:
    for width in range(8, 140):
        line = _shown(width, event)
        assert "\n" not in line
        assert cell_len(line) <= width - 3, line


STAGES = {
    "waiting": ([effects.Waiting(180)], {}, "no SMS yet · gives up in 3:00 · Ctrl-C cancels"),
    "rental": (
        [effects.Waiting(180)],
        {"rents": True},
        "no SMS yet · gives up in 3:00 · Ctrl-C stops",
    ),
    "held": ([effects.HeldBack("o", 90)], {}, "cancels in 1:30 · Ctrl-C twice leaves it open"),
    "stopping": (
        [effects.Bought(ORDER), effects.Waiting(180)],
        {"interrupted": True},
        "stopping · Ctrl-C again leaves it open",
    ),
    "stopping, nothing bought": ([effects.Chosen(OFFER)], {"interrupted": True}, "stopping"),
    "buying": ([effects.Chosen(OFFER)], {}, "buying the number · Ctrl-C stops"),
    "received": ([effects.Received("1", "1")], {}, "confirming the order"),
    "paused": ([effects.Paused(5, "x")], {}, "paused · tries again in 0:05 · Ctrl-C cancels"),
}


@pytest.mark.parametrize(("events", "how", "line"), STAGES.values(), ids=STAGES)
def test_the_live_line_says_what_goes_on_and_what_ctrl_c_does(
    events: list[Event], how: dict[str, bool], line: str
) -> None:
    assert _shown(80, *events, **how)[2:] == line
