"""Run a generator of effects: one logic, driven in two colours.

`perform` does what an effect says. Its result is sent into the generator; whatever it raises is
thrown in at the same place, cancellation included, so that the logic can write it down.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from inspect import GEN_CLOSED, getgeneratorstate
from typing import Any, TypeVar

E = TypeVar("E")
R = TypeVar("R")


def drive(logic: Generator[E, Any, R], perform: Callable[[E], object]) -> R:
    """The generator's return value. Raises what it raises."""
    try:
        effect = next(logic)
        while True:
            try:
                while True:
                    effect = logic.send(perform(effect))
            except BaseException as error:  # noqa: BLE001  thrown in: the logic decides
                effect = _thrown(logic, error)
    except StopIteration as stop:
        value: R = stop.value
        return value


async def drive_async(logic: Generator[E, Any, R], perform: Callable[[E], Awaitable[object]]) -> R:
    """`drive`, for a `perform` that is awaited."""
    try:
        effect = next(logic)
        while True:
            try:
                while True:
                    effect = logic.send(await perform(effect))
            except BaseException as error:  # noqa: BLE001  thrown in: the logic decides
                effect = _thrown(logic, error)
    except StopIteration as stop:
        value: R = stop.value
        return value


def _thrown(logic: Generator[E, Any, R], error: BaseException) -> E:
    """The next effect after a failure. Raises it again if it is the logic's own.

    Ctrl-C may come between an effect and what is done with its result: then it did not pass
    through the logic yet, which is still in the middle of its work.
    """
    if getgeneratorstate(logic) == GEN_CLOSED:
        raise error
    return logic.throw(error)
