"""No more requests a minute than the service allows a key (60), the paid ones never kept waiting.

A signed authorization is running out, and the server holds a quote: the request that carries it
must not queue. So the first request of a call waits for the places of them all, and what it does
not use is kept for the ones that follow.

    pace = Pace(60)
    http = httpx.Client(transport=X402Transport(wallet, transport=PacedTransport(inner, pace)))
    with pace.turn() as turn:
        http.get(url, extensions={pacing.EXTENSION: turn})

What is counted is when a request is handed on. The service counts when it arrives: requests that
are late bunch together there, and its minute may begin elsewhere. So it may still answer 429.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator
from contextlib import closing
from itertools import islice
from types import TracebackType
from typing import Final

import httpx

from x402sms.clock import Clock, SystemClock

EXTENSION: Final = "x402sms.turn"
WINDOW: Final = 60.0  # seconds
REQUESTS_OF_A_CALL: Final = 2  # the one that asks the price, and the one that pays it

# Seconds. A place that is kept may be given back at any moment; and a sleep that is too short for
# the clock to show it would be one of many.
LOOK_AGAIN: Final = 1.0
SHORTEST: Final = 0.001


class Pace:
    """At most `per_minute` requests in any 60 seconds, for all threads and tasks that share it.

    Requests get their places in the order in which they ask. One that is behind others goes only
    when there are places enough for all of those as well. Raises ValueError for fewer than 2 a
    minute: a paid call is two requests.
    """

    def __init__(self, per_minute: int, *, clock: Clock | None = None) -> None:
        if per_minute < REQUESTS_OF_A_CALL:
            raise ValueError(f"a paid call is {REQUESTS_OF_A_CALL} requests: per_minute is too low")
        self.clock: Clock = SystemClock() if clock is None else clock
        self._lock = threading.Lock()  # never held while anybody waits
        self._free = per_minute
        self._used: deque[float] = deque()  # when each place that was used is free again
        self._queue: deque[_Wish] = deque()

    def turn(self, requests: int = REQUESTS_OF_A_CALL) -> Turn:
        """For one call. `requests` is 1 where nothing is paid, or the first request pays."""
        return Turn(self, requests)

    def take(self, places: int) -> Generator[float, None, None]:
        """Seconds to sleep, one after the other. At its end one place is used, the others kept.

        Closed before its end, it has taken nothing.
        """
        wish = _Wish(places)
        with self._lock:
            self._queue.append(wish)
        try:
            while (seconds := self._try(wish)) > 0:
                yield seconds
        finally:
            with self._lock:
                self._queue.remove(wish)

    def _try(self, wish: _Wish) -> float:
        """0: it has its places. Else when to try again."""
        with self._lock:
            now = self._look()
            missing = self._wanted_up_to(wish) - self._free
            if missing <= 0:
                self._free -= wish.places
                self._use(now)
                wish.places = 0  # nobody waits for it any more
                return 0
            if missing > len(self._used):
                return LOOK_AGAIN
            return min(LOOK_AGAIN, max(SHORTEST, self._used[missing - 1] - now))

    def use_kept(self) -> None:
        """A request goes now, at a place that was kept for it."""
        with self._lock:
            self._use(self._look())

    def give_back(self, places: int) -> None:
        """Kept, and not needed."""
        with self._lock:
            self._free += places

    def _wanted_up_to(self, wish: _Wish) -> int:
        ahead = islice(self._queue, self._queue.index(wish))
        return wish.places + sum(each.places for each in ahead)

    def _look(self) -> float:
        now = self.clock.now()
        while self._used and self._used[0] <= now:
            self._used.popleft()
            self._free += 1
        return now

    def _use(self, now: float) -> None:
        self._used.append(now + WINDOW)


class _Wish:
    """Somebody who waits. Equal to nobody else, however many places each wants."""

    def __init__(self, places: int) -> None:
        self.places = places


class Turn:
    """The requests of one call, one after the other. Leaving it gives back what they left over.

    The first request waits for `requests` places, and those that follow have theirs at once. One
    more than these, or one after the end, waits for a place of its own.
    """

    def __init__(self, pace: Pace, requests: int) -> None:
        if not 1 <= requests <= REQUESTS_OF_A_CALL:
            raise ValueError(f"a call is 1 to {REQUESTS_OF_A_CALL} requests")
        self._pace = pace
        self._ahead = requests  # how many places the next request waits for
        self._kept = 0

    def take(self) -> Generator[float, None, None]:
        """Seconds to sleep, one after the other; then the next request may go, at once."""
        if self._kept:
            self._kept -= 1
            self._pace.use_kept()
            return
        places = self._ahead
        yield from self._pace.take(places)
        self._ahead = 1
        self._kept = places - 1

    def close(self) -> None:
        self._ahead = 1
        kept, self._kept = self._kept, 0
        self._pace.give_back(kept)

    def __enter__(self) -> Turn:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class PacedTransport(httpx.BaseTransport):
    """Sends through `inner`, at the pace of the request's Turn (`extensions`), or one by one."""

    def __init__(self, inner: httpx.BaseTransport, pace: Pace) -> None:
        self._inner = inner
        self._pace = pace

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with closing(_turn_of(request, self._pace).take()) as pauses:
            for seconds in pauses:
                self._pace.clock.sleep(seconds)
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


class AsyncPacedTransport(httpx.AsyncBaseTransport):
    """PacedTransport for tasks."""

    def __init__(self, inner: httpx.AsyncBaseTransport, pace: Pace) -> None:
        self._inner = inner
        self._pace = pace

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        with closing(_turn_of(request, self._pace).take()) as pauses:
            for seconds in pauses:
                await self._pace.clock.sleep_async(seconds)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def _turn_of(request: httpx.Request, pace: Pace) -> Turn:
    turn = request.extensions.get(EXTENSION)
    return turn if isinstance(turn, Turn) else pace.turn(requests=1)
