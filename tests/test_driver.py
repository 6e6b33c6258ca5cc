"""Whatever comes while a generator is driven passes through it, wherever it comes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Generator
from types import CodeType, FrameType
from typing import Any

import pytest

from x402sms.driver import drive, drive_async

EFFECTS = ["first", "second", "third"]


class Logic:
    """Asks for three effects; notes what it is given, and what is thrown in."""

    def __init__(self, *, stays: bool = False) -> None:
        self.seen: list[Any] = []
        self.closed: list[str] = []
        self.stays = stays  # it catches what is thrown in, and goes on

    def run(self) -> Generator[str, Any, str]:
        for effect in EFFECTS:
            try:
                self.seen.append((yield effect))
            except GeneratorExit:
                self.closed.append("left in the middle of its work")
                raise
            except BaseException as error:
                self.seen.append(type(error))
                self.closed.append((yield "close"))
                if not self.stays:
                    raise
        return "done"


def _run(colour: str, logic: Logic, perform: Callable[[str], str]) -> str:
    if colour == "sync":
        return drive(logic.run(), perform)

    async def performed(effect: str) -> str:
        return perform(effect)

    return asyncio.run(drive_async(logic.run(), performed))


COLOURS = ("sync", "async")


@pytest.mark.parametrize("colour", COLOURS)
def test_each_result_is_sent_in_and_the_return_value_comes_out(colour: str) -> None:
    logic = Logic()
    assert _run(colour, logic, str.upper) == "done"
    assert logic.seen == ["FIRST", "SECOND", "THIRD"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("colour", COLOURS)
def test_what_an_effect_raises_is_thrown_in(colour: str, kind: type[BaseException]) -> None:
    def perform(effect: str) -> str:
        if effect == "second":
            raise kind
        return effect

    logic = Logic()
    with pytest.raises(kind):
        _run(colour, logic, perform)
    assert logic.seen == ["first", kind]
    assert logic.closed == ["close"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("colour", COLOURS)
def test_what_the_logic_raises_itself_comes_out_once(
    colour: str, kind: type[BaseException]
) -> None:
    raised = kind("the logic's own")

    def logic() -> Generator[str, Any, str]:
        yield "first"
        raise raised

    async def performed(effect: str) -> str:
        return effect

    def driven() -> str:
        if colour == "sync":
            return drive(logic(), str.upper)
        return asyncio.run(drive_async(logic(), performed))

    with pytest.raises(kind) as caught:
        driven()
    assert caught.value is raised
    assert caught.value.__context__ is None


@pytest.mark.parametrize("colour", COLOURS)
def test_a_stop_iteration_of_an_effect_is_not_taken_for_the_end(colour: str) -> None:
    def perform(effect: str) -> str:
        if effect == "close":
            return effect
        raise StopIteration("of something else")

    logic = Logic()
    with pytest.raises(RuntimeError):
        _run(colour, logic, perform)
    assert logic.seen == [StopIteration if colour == "sync" else RuntimeError]
    assert logic.closed == ["close"]


def _lines_of(function: Callable[..., Any]) -> list[int]:
    code = function.__code__
    return sorted({line for _, _, line in code.co_lines() if line} - {code.co_firstlineno})


class _CtrlC:
    """A KeyboardInterrupt before a line of the driver runs, the n-th time that it is come to."""

    def __init__(self, code: CodeType, line: int, nth: int) -> None:
        self.code, self.line, self.left = code, line, nth
        self.struck = False

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._at_line if frame.f_code is self.code else None

    def _at_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and frame.f_lineno == self.line and not self.struck:
            self.left -= 1
            if not self.left:
                self.struck = True
                raise KeyboardInterrupt
        return self._at_line


def _with_ctrl_c(colour: str, line: int, nth: int, logic: Logic) -> tuple[bool, Any]:
    """Whether it came, and how the drive ended."""
    function = drive if colour == "sync" else drive_async
    ctrl_c = _CtrlC(function.__code__, line, nth)
    earlier = sys.gettrace()
    sys.settrace(ctrl_c)
    try:
        return ctrl_c.struck, _run(colour, logic, lambda effect: effect)
    except KeyboardInterrupt as interrupted:
        return ctrl_c.struck, interrupted
    finally:
        sys.settrace(earlier)


BODY = {
    colour: _lines_of(function)
    for colour, function in zip(COLOURS, (drive, drive_async), strict=True)
}


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("colour", "line"), [(colour, line) for colour in COLOURS for line in BODY[colour]]
)
def test_ctrl_c_in_the_driver_itself_passes_through_the_logic(
    colour: str, line: int, nth: int
) -> None:
    """Once the logic has begun, it is never left in the middle of its work."""
    logic = Logic()
    _, ended = _with_ctrl_c(colour, line, nth, logic)
    if ended == "done" or not logic.seen:
        return  # that line is come to less often, or before anything is done
    assert isinstance(ended, KeyboardInterrupt)
    finished = logic.seen == EFFECTS
    assert finished or logic.closed == ["close"], logic.seen
    assert "left in the middle of its work" not in logic.closed


def test_some_ctrl_c_of_these_do_come_between_two_effects() -> None:
    """Else the test above would show nothing."""
    for colour in COLOURS:
        closed = 0
        for line in BODY[colour]:
            logic = Logic()
            _with_ctrl_c(colour, line, 2, logic)
            closed += logic.closed == ["close"]
        assert closed, colour
