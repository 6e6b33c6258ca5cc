"""Blocking work of many tasks, done in one go: to each its own, whatever befalls the others."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from x402sms.steady import MOST_TOGETHER, Together

pytestmark = pytest.mark.anyio


class Bench:
    """Notes what is done. The first piece waits until the others have come."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.rounds: list[int] = []
        self.go_on = threading.Event()
        self.all_done, self.commit = threading.Event(), threading.Event()
        self.commit.set()
        self.failing = False
        self.together = Together(self.around)

    @contextmanager
    def around(self) -> Iterator[None]:
        before = len(self.done)
        yield
        self.rounds.append(len(self.done) - before)
        self.all_done.set()
        assert self.commit.wait(30)
        if self.failing:
            raise OSError("the commit failed")

    def first(self, number: int) -> int:
        assert self.go_on.wait(30)
        return self.work(number)

    def work(self, number: int) -> int:
        self.done.append(number)
        if number < 0:
            raise ValueError(f"{number} cannot be done")
        return number * 10

    async def begin(self, *numbers: int) -> list[asyncio.Task[int]]:
        """The first is at work, the others wait behind it in this order."""
        work: Callable[[int], int] = self.first
        tasks = []
        for number in numbers:
            tasks.append(asyncio.create_task(self.together.in_thread(work, number)))
            await settled()
            work = self.work
        return tasks


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.go_on.set()
    bench.commit.set()


async def test_one_alone_is_done_alone(bench: Bench) -> None:
    assert await bench.together.in_thread(bench.work, 1) == 10
    assert (bench.done, bench.rounds) == ([1], [])


async def test_what_comes_meanwhile_is_done_in_one_go_and_in_order(bench: Bench) -> None:
    tasks = await bench.begin(1, 2, 3, 4)
    bench.go_on.set()
    assert await asyncio.gather(*tasks) == [10, 20, 30, 40]
    assert (bench.done, bench.rounds) == ([1, 2, 3, 4], [3])


async def test_one_go_is_bounded(bench: Bench) -> None:
    tasks = await bench.begin(*range(MOST_TOGETHER + 3))
    bench.go_on.set()
    assert await asyncio.gather(*tasks) == [10 * number for number in range(MOST_TOGETHER + 3)]
    assert bench.rounds == [MOST_TOGETHER, 2]


async def test_an_error_is_for_its_own_task_only(bench: Bench) -> None:
    tasks = await bench.begin(1, -2, 3)
    bench.go_on.set()
    await asyncio.wait(tasks)
    assert (tasks[0].result(), tasks[2].result()) == (10, 30)
    with pytest.raises(ValueError, match="-2 cannot be done"):
        tasks[1].result()


async def test_where_what_is_around_them_fails_each_is_done_again_alone(bench: Bench) -> None:
    tasks = await bench.begin(1, 2, 3)
    bench.failing = True
    bench.go_on.set()
    assert await asyncio.gather(*tasks) == [10, 20, 30]
    assert bench.done == [1, 2, 3, 2, 3]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["at work", "next to lead", "behind it"])
async def test_a_cancelled_one_is_done_all_the_same_and_holds_nobody_up(
    bench: Bench, which: int
) -> None:
    tasks = await bench.begin(1, 2, 3)
    tasks[which].cancel()
    await settled()
    assert not tasks[which].done()  # not before its work is
    bench.go_on.set()
    await asyncio.wait(tasks)
    assert tasks[which].cancelled()
    assert bench.done == [1, 2, 3]
    assert await bench.together.in_thread(bench.work, 4) == 40


async def test_where_the_one_that_leads_is_stopped_the_others_are_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stopped(*_: object) -> None:
        raise ValueError("no thread")

    tasks = await bench.begin(1, 2, 3)
    monkeypatch.setattr("anyio.to_thread.run_sync", stopped)
    bench.go_on.set()
    with pytest.raises(ValueError, match="no thread"):
        await tasks[1]
    with pytest.raises(RuntimeError, match="was stopped"):
        await tasks[2]
    assert await tasks[0] == 10


@pytest.mark.parametrize("busy", [True, False], ids=["behind another", "alone"])
async def test_one_that_is_stopped_before_it_begins_holds_nobody_up(
    bench: Bench, busy: bool
) -> None:
    """As whoever stops all tasks of a loop does: those that `finish` made too."""
    first = await bench.begin(1) if busy else []
    others = asyncio.all_tasks()
    stopped = asyncio.create_task(bench.together.in_thread(bench.work, 2))
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - others:
        task.cancel()
    bench.go_on.set()
    await asyncio.wait([stopped, *first])

    assert stopped.cancelled()
    next_one = asyncio.create_task(bench.together.in_thread(bench.work, 3))
    await asyncio.wait([next_one], timeout=10)
    assert next_one.done()
    assert next_one.result() == 30
    assert 2 not in bench.done


async def test_nobody_goes_on_before_the_commit_although_the_one_that_leads_is_stopped(
    bench: Bench,
) -> None:
    bench.commit.clear()
    await bench.begin(1)
    others = asyncio.all_tasks()
    leading = asyncio.create_task(bench.together.in_thread(bench.work, 2))
    await settled()
    of_leading = asyncio.all_tasks() - others
    behind = asyncio.create_task(bench.together.in_thread(bench.work, 3))
    await settled()
    bench.go_on.set()
    assert await asyncio.to_thread(bench.all_done.wait, 30)
    for task in of_leading:
        task.cancel()

    with pytest.raises(RuntimeError, match="was stopped"):
        await behind
    assert leading.cancelled()
    bench.commit.set()


async def test_one_that_comes_when_the_next_is_called_does_not_overtake_it(bench: Bench) -> None:
    tasks = await bench.begin(1, 2)
    tasks[0].add_done_callback(
        lambda _: tasks.append(asyncio.create_task(bench.together.in_thread(bench.work, 3)))
    )
    bench.go_on.set()
    await asyncio.wait(tasks[:2])
    assert await tasks[2] == 30
    assert bench.done == [1, 2, 3]


async def test_each_is_done_in_the_context_of_its_task(bench: Bench) -> None:
    name = contextvars.ContextVar("name", default="")
    seen: dict[int, str] = {}

    def look(number: int) -> None:
        seen[number] = name.get()

    async def ask(number: int) -> None:
        name.set(f"task {number}")
        await bench.together.in_thread(look, number)

    [first] = await bench.begin(0)
    tasks = [asyncio.create_task(ask(number)) for number in (1, 2)]
    await settled()
    bench.go_on.set()
    await asyncio.wait([first, *tasks])
    assert seen == {1: "task 1", 2: "task 2"}


def test_it_goes_on_in_another_loop_after_one_that_was_stopped(bench: Bench) -> None:
    async def interrupted() -> None:
        await bench.begin(1, 2)
        raise KeyboardInterrupt

    threading.Timer(0.05, bench.go_on.set).start()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(interrupted())
    bench.go_on.set()
    assert asyncio.run(bench.together.in_thread(bench.work, 3)) == 30
