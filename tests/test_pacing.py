"""Never more requests in a minute than agreed, and none with a payment is ever kept waiting."""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count, pairwise
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.buyer import COLOURS, Buyer, Colour
from tests.shop import Shop
from x402sms import SpendLimits, Wallet
from x402sms.clock import SystemClock
from x402sms.errors import SpendLimitExceeded
from x402sms.ledger import SQLiteLedger
from x402sms.pacing import (
    EXTENSION,
    LOOK_AGAIN,
    AsyncPacedTransport,
    Pace,
    PacedTransport,
    Turn,
)
from x402sms.sandbox import SandboxConfig, running_sandbox

ANYWHERE = "https://shop.example/x"


class Standing:
    """A clock that goes on only when somebody sleeps. It notes for how long."""

    def __init__(self) -> None:
        self.at = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.at

    def time(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


def places_left(pace: Pace) -> int:
    """How many requests may go at once. Uses them up."""
    for number in count():
        with closing(pace.turn(requests=1).take()) as pauses:
            if next(pauses, None) is not None:
                return number
    raise AssertionError


# Schedules, one event after the other


@dataclass(frozen=True)
class Plan:
    """One call. Seconds, but for `requests` (how many it makes) and `expects` (of its Turn)."""

    starts: float = 0
    requests: int = 2
    expects: int = 2
    answered_after: float = 0
    oversleeps: float = 0
    cancelled_after: float | None = None


@dataclass(frozen=True, order=True)
class Sent:
    at: float
    asked: float
    call: int
    number: int


@dataclass
class World:
    """Calls that share a pace, and what they sent and when."""

    per_minute: int
    clock: Standing = field(default_factory=Standing)
    sent: list[Sent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pace = Pace(self.per_minute, clock=self.clock)

    def run(self, *plans: Plan) -> list[Sent]:
        calls = [self._call(number, plan) for number, plan in enumerate(plans)]
        events = [(plan.starts, number, False) for number, plan in enumerate(plans)]
        events += [
            (plan.starts + plan.cancelled_after, number, True)
            for number, plan in enumerate(plans)
            if plan.cancelled_after is not None
        ]
        order = count()
        queue = [(at, next(order), number, cancelled) for at, number, cancelled in events]
        heapq.heapify(queue)
        while queue:
            self.clock.at, _, number, cancelled = heapq.heappop(queue)
            if cancelled:
                calls[number].close()
            elif (seconds := next(calls[number], None)) is not None:
                heapq.heappush(queue, (self.clock.at + seconds, next(order), number, False))
        return self.sent

    def _call(self, call: int, plan: Plan) -> Generator[float, None, None]:
        with self.pace.turn(plan.expects) as turn:
            for number in range(plan.requests):
                asked = self.clock.at
                with closing(turn.take()) as pauses:
                    for seconds in pauses:
                        assert 0 < seconds <= LOOK_AGAIN
                        yield seconds + plan.oversleeps
                self.sent.append(Sent(self.clock.at, asked, call, number))
                yield plan.answered_after

    def times(self) -> list[float]:
        return [each.at for each in self.sent]


def most_in_a_minute(times: list[float]) -> int:
    times = sorted(times)
    return max(
        (sum(first <= each < first + 60 for each in times) for first in times),
        default=0,
    )


# Eighths of a second are exact, and meet each other often.
SECONDS = st.integers(0, 8 * 90).map(lambda eighths: eighths / 8)
ROUNDED = st.integers(0, 10 * 90).map(lambda tenths: tenths / 10)
SHORT = st.sampled_from([0, 0, 1 / 8, 1, 30])
PLANS = st.lists(
    st.builds(
        Plan,
        starts=SECONDS | ROUNDED,
        requests=st.integers(1, 4),
        expects=st.integers(1, 2),
        answered_after=SHORT,
        oversleeps=SHORT,
        cancelled_after=st.none() | SECONDS,
    ),
    max_size=25,
)


@settings(deadline=None)
@given(per_minute=st.integers(2, 7), plans=PLANS)
def test_whatever_the_calls_do_a_minute_has_no_more_requests_than_agreed(
    per_minute: int, plans: list[Plan]
) -> None:
    world = World(per_minute)
    sent = world.run(*plans)
    assert most_in_a_minute(world.times()) <= per_minute
    for each in sent:
        if 0 < each.number < plans[each.call].expects:
            assert each.at == each.asked, "the paid request waited"
    for number, plan in enumerate(plans):
        if plan.cancelled_after is None:
            assert sum(each.call == number for each in sent) == plan.requests
    world.clock.at += 60
    assert places_left(world.pace) == per_minute, "a place was lost, or made"


@settings(deadline=None)
@given(
    per_minute=st.integers(2, 7),
    plans=st.lists(
        st.builds(Plan, starts=SECONDS, expects=st.just(2), answered_after=SHORT), max_size=25
    ),
)
def test_calls_go_in_the_order_in_which_they_come(per_minute: int, plans: list[Plan]) -> None:
    sent = World(per_minute).run(*sorted(plans, key=lambda plan: plan.starts))
    firsts = sorted((each.call, each.at) for each in sent if each.number == 0)
    assert all(earlier[1] <= later[1] for earlier, later in pairwise(firsts))


UNPAID = Plan(requests=1)
ONE = Plan(requests=1, expects=1)


@pytest.mark.parametrize(
    ("plans", "times"),
    [
        pytest.param([ONE] * 9, [0] * 4 + [60] * 4 + [120], id="any minute has four"),
        pytest.param([Plan()] * 3, [0, 0, 0, 0, 60, 60], id="a paid call is two"),
        pytest.param(
            [Plan(answered_after=10)] * 3, [0, 0, 10, 10, 60, 70], id="a minute from their use on"
        ),
        pytest.param(
            [Plan(requests=3)] * 2, [0, 0, 0, 0, 60, 60], id="one more waits for a place of its own"
        ),
        pytest.param(
            [UNPAID] * 3, [0, 0, LOOK_AGAIN], id="what an unpaid call has kept is given back"
        ),
        pytest.param(
            [Plan(answered_after=10, cancelled_after=5)] * 2 + [Plan()],
            [0, 0, 5, 5],
            id="what a cancelled call has kept is given back",
        ),
        pytest.param(
            [Plan(), Plan(), Plan(starts=1, cancelled_after=3), Plan(starts=2)],
            [0, 0, 0, 0, 60, 60],
            id="one that is cancelled in the queue lets the next go",
        ),
        pytest.param(
            [ONE] * 3 + [Plan(starts=1), Plan(starts=2, requests=1, expects=1)],
            [0, 0, 0, 60, 60, 60],
            id="one place does not let a call overtake one that needs two",
        ),
        pytest.param(
            [Plan(expects=1, requests=3, answered_after=30)] * 4,
            [0] * 4 + [60] * 4 + [120] * 4,
            id="calls that expect one request",
        ),
    ],
)
def test_at_four_a_minute(plans: list[Plan], times: list[float]) -> None:
    world = World(4)
    world.run(*plans)
    assert world.times() == times


# Through the transports


@dataclass
class Sends(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Notes when a request is sent, and how many may go. It answers after `seconds`."""

    clock: Any
    times: list[float] = field(default_factory=list)
    seconds: float = 0
    closed: bool = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.times.append(self.clock.now())
        self.clock.sleep(self.seconds)
        return httpx.Response(200)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.times.append(self.clock.now())
        await self.clock.sleep_async(self.seconds)
        return httpx.Response(200)

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.close()


def request_of(turn: Turn) -> httpx.Request:
    return httpx.Request("GET", ANYWHERE, extensions={EXTENSION: turn})


def paced(colour: Colour, inner: Any, pace: Pace) -> Any:
    return PacedTransport(inner, pace) if colour == "sync" else AsyncPacedTransport(inner, pace)


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    colour: Colour = request.param
    return colour


@pytest.mark.parametrize("extensions", [{}, {EXTENSION: "mine"}], ids=["without", "another's"])
def test_a_request_without_a_turn_takes_one_place(
    colour: Colour, extensions: dict[str, Any]
) -> None:
    clock = Standing()
    pace, sends = Pace(2, clock=clock), Sends(clock)

    async def main() -> None:
        async with httpx.AsyncClient(transport=AsyncPacedTransport(sends, pace)) as client:
            for _ in range(3):
                await client.get(ANYWHERE, extensions=extensions)

    if colour == "sync":
        with httpx.Client(transport=PacedTransport(sends, pace)) as client:
            for _ in range(3):
                client.get(ANYWHERE, extensions=extensions)
    else:
        asyncio.run(main())
    assert sends.times == [0, 0, 60]
    assert sum(clock.slept) == 60
    assert sends.closed


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        pytest.param({}, 2, id="paid"),
        pytest.param({"limits": SpendLimits(per_call="0.001")}, 1, id="refused by the limits"),
    ],
)
def test_a_paying_client_uses_the_places_of_its_requests(
    colour: Colour, settings: dict[str, Any], places: int
) -> None:
    shop, clock = Shop("v2"), Standing()
    pace = Pace(5, clock=clock)
    buyer = Buyer(colour, paced(colour, shop, pace), **settings)
    with pace.turn() as turn:
        try:
            buyer.send("GET", ANYWHERE, extensions={EXTENSION: turn})
        except SpendLimitExceeded:
            assert places == 1
    assert len(shop.seen) == places
    assert clock.slept == []
    assert places_left(pace) == 5 - places


def test_the_turn_goes_with_a_request_over_a_real_connection(colour: Colour) -> None:
    wallet, clock = Wallet.generate(), Standing()
    pace = Pace(5, clock=clock)
    inner = httpx.HTTPTransport() if colour == "sync" else httpx.AsyncHTTPTransport()
    with (
        running_sandbox(SandboxConfig(network="base")) as sandbox,
        SQLiteLedger(":memory:") as ledger,
        pace.turn() as turn,
    ):
        sandbox.fund(wallet.address, 1)
        buyer = Buyer(colour, paced(colour, inner, pace), wallet=wallet, ledger=ledger)
        answer = buyer.send("GET", f"{sandbox.url}/services", extensions={EXTENSION: turn})
        assert answer.status_code == 200
        assert "x402" in answer.extensions
    assert places_left(pace) == 3


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_turn_that_is_over_keeps_nothing_and_takes_one_place_a_request(before: int) -> None:
    clock = Standing()
    pace = Pace(6, clock=clock)
    transport = PacedTransport(Sends(clock), pace)
    with pace.turn() as turn:
        for _ in range(before):
            transport.handle_request(request_of(turn))
    turn.close()
    transport.handle_request(request_of(turn))
    assert places_left(pace) == 6 - before - 1


# Threads and tasks, in a time that goes on when all of them sleep


class ThreadTime(Standing):
    def __init__(self, threads: int) -> None:
        super().__init__()
        self._awake = threads
        self._alarms: list[float] = []
        self._changed = threading.Condition()

    def sleep(self, seconds: float) -> None:
        with self._changed:
            alarm = self.at + seconds
            self._alarms.append(alarm)
            self._one_less()
            self._changed.wait_for(lambda: alarm <= self.at)

    def leave(self) -> None:
        with self._changed:
            self._one_less()

    def _one_less(self) -> None:
        self._awake -= 1
        if self._awake or not self._alarms:
            return
        self.at = min(self._alarms)
        self._awake = self._alarms.count(self.at)
        self._alarms = [alarm for alarm in self._alarms if alarm > self.at]
        self._changed.notify_all()


def test_threads_keep_the_pace() -> None:
    calls, threads, per_minute = 6, 12, 10
    clock = ThreadTime(threads)
    pace, sends = Pace(per_minute, clock=clock), Sends(clock, seconds=0.25)
    transport = PacedTransport(sends, pace)
    waited: list[float] = []

    def work(number: int) -> None:
        try:
            for call in range(calls):
                with pace.turn() as turn:
                    transport.handle_request(request_of(turn))
                    if (number + call) % 3 == 0:
                        continue  # unpaid
                    asked = clock.now()
                    transport.handle_request(request_of(turn))
                    waited.append(clock.now() - asked - sends.seconds)
        finally:
            clock.leave()

    started = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join(60)
        assert not thread.is_alive()
    assert len(sends.times) == calls * threads * 5 // 3
    assert per_minute - 1 <= most_in_a_minute(sends.times) <= per_minute
    assert set(waited) == {0}
    clock.at += 60
    assert places_left(pace) == per_minute


class TaskTime(Standing):
    def __init__(self, tasks: int) -> None:
        super().__init__()
        self._awake = tasks
        self._alarms: list[tuple[float, asyncio.Future[None]]] = []

    async def sleep_async(self, seconds: float) -> None:
        alarm = (self.at + seconds, asyncio.get_running_loop().create_future())
        self._alarms.append(alarm)
        self._one_less()
        try:
            await alarm[1]
        except asyncio.CancelledError:
            if alarm in self._alarms:
                self._alarms.remove(alarm)
                self._awake += 1
            raise

    def leave(self) -> None:
        self._one_less()

    def _one_less(self) -> None:
        self._awake -= 1
        if self._awake or not self._alarms:
            return
        self.at = min(at for at, _ in self._alarms)
        for alarm in [each for each in self._alarms if each[0] == self.at]:
            self._alarms.remove(alarm)
            self._awake += 1
            if not alarm[1].done():
                alarm[1].set_result(None)


def test_tasks_keep_the_pace_whichever_are_cancelled(request: pytest.FixtureRequest) -> None:
    tasks, per_minute = 120, 10
    seed = request.config.getoption("hypothesis_seed")
    dice = Random(seed)  # noqa: S311  to repeat
    doomed = dice.sample(range(tasks), 40)
    clock = TaskTime(tasks + len(doomed))
    pace, sends = Pace(per_minute, clock=clock), Sends(clock, seconds=0.25)
    transport = AsyncPacedTransport(sends, pace)
    waited: list[float] = []

    async def buy(number: int) -> None:
        try:
            with pace.turn() as turn:
                await transport.handle_async_request(request_of(turn))
                if number % 3:
                    asked = clock.now()
                    await transport.handle_async_request(request_of(turn))
                    waited.append(clock.now() - asked - sends.seconds)
        finally:
            clock.leave()

    async def kill(task: asyncio.Task[None]) -> None:
        await clock.sleep_async(dice.choice([0, 0.125, 0.25, dice.uniform(0, 300)]))
        task.cancel()
        clock.leave()

    async def main() -> list[Any]:
        buyers = [asyncio.create_task(buy(number)) for number in range(tasks)]
        killers = [asyncio.create_task(kill(buyers[number])) for number in doomed]
        ends = await asyncio.gather(*buyers, return_exceptions=True)
        await asyncio.gather(*killers)
        return ends

    ends = asyncio.run(asyncio.wait_for(main(), 60))
    alive = [end for number, end in enumerate(ends) if number not in doomed]
    assert alive == [None] * (tasks - len(doomed)), seed
    assert any(isinstance(end, asyncio.CancelledError) for end in ends), seed
    assert per_minute - 1 <= most_in_a_minute(sends.times) <= per_minute, seed
    assert set(waited) <= {0}, seed
    clock.at += 60
    assert places_left(pace) == per_minute, seed


# The rest


@pytest.mark.parametrize("per_minute", [-1, 0, 1])
def test_a_paid_call_must_fit_in_a_minute(per_minute: int) -> None:
    with pytest.raises(ValueError, match="2 requests"):
        Pace(per_minute)


@pytest.mark.parametrize("requests", [-1, 0, 3])
def test_a_call_has_one_or_two_requests(requests: int) -> None:
    with pytest.raises(ValueError, match="1 to 2"):
        Pace(60).turn(requests)


def test_the_systems_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SystemClock()
    assert clock.now() <= time.monotonic() <= clock.now()
    assert clock.time() == pytest.approx(time.time(), abs=5)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("anyio.sleep", sleep)
    clock.sleep(1)
    asyncio.run(clock.sleep_async(2))
    assert slept == [1, 2]
