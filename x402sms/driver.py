"""Run a generator of effects: one logic, driven in two colours.

`perform` does what an effect says. Its result is sent into the generator; whatever it raises is
thrown in at the same place, cancellation included, so that the logic can write it down.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

E = TypeVar("E")
R = TypeVar("R")


def drive(logic: Generator[E, Any, R], perform: Callable[[E], object]) -> R:
    """The generator's return value. Raises what it raises."""
    try:
        effect = next(logic)
        while True:
            try:
                result = perform(effect)
            except BaseException as error:  # noqa: BLE001  thrown in: the logic decides
                effect = logic.throw(error)
            else:
                effect = logic.send(result)
    except StopIteration as stop:
        value: R = stop.value
        return value


async def drive_async(logic: Generator[E, Any, R], perform: Callable[[E], Awaitable[object]]) -> R:
    """`drive`, for a `perform` that is awaited."""
    try:
        effect = next(logic)
        while True:
            try:
                result = await perform(effect)
            except BaseException as error:  # noqa: BLE001  thrown in: the logic decides
                effect = logic.throw(error)
            else:
                effect = logic.send(result)
    except StopIteration as stop:
        value: R = stop.value
        return value
