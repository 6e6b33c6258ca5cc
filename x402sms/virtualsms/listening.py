"""Listening to a job's number: long polls until an SMS is there, and swaps where none comes.

Where webhooks tell of what comes, those are looked at instead, which costs nothing; one short poll
before a number is swapped or given up finds what a lost webhook did not tell.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from x402sms.errors import (
    CooldownActive,
    NoStock,
    NotFound,
    OrderAlreadyConfirmed,
    OrderExpired,
    RateLimited,
    ValidationFailed,
)
from x402sms.text import one_line
from x402sms.virtualsms import calls
from x402sms.virtualsms.effects import (
    Announce,
    CheckMail,
    Effect,
    Make,
    Now,
    Paused,
    Sleep,
    Swapped,
    Waiting,
)
from x402sms.virtualsms.ending import (
    DEFAULT_HOLD,
    LAST_CALL,
    LONGEST_HOLD,
    PASSING,
    How,
    look,
    merged,
    standing,
)
from x402sms.virtualsms.inbox import digits_of, messages_of
from x402sms.virtualsms.job import Job
from x402sms.virtualsms.models import Order, OrderStatus, Sms, SmsResult
from x402sms.virtualsms.opening import hold_number
from x402sms.virtualsms.patience import LONGEST_PAUSE, make, wait_out

LONGEST_POLL = calls.MAX_LONG_POLL_SECONDS
SHORTEST_INTERVAL = 5  # seconds between two polls: the vendor asks not to poll faster
LONGEST_INTERVAL = 60  # ... where the service answers at once and has nothing new
SHORTEST_LISTEN = 30  # seconds for which another number is worth having
MAIL_INTERVAL = 0.5  # seconds between two looks at what webhooks told
LAST_POLL = 2  # seconds: the poll before a number is given up, where webhooks tell the rest
MOST_FAILED_POLLS = 3  # in a row: each may have been paid for
MOST_REFUSED_SWAPS = 3


def listen(job: Job, until: float) -> Generator[Effect, Any, SmsResult | None]:
    """Wait until there is an SMS. None: at `until`, or where this number is given up before.

    Each poll is a paid call, so each is as long as it can be.
    """
    order = job.need_order()
    if order.messages and has_news(job, as_result(order)):
        return as_result(order)  # it is there, and need not be paid for
    rhythm = _Rhythm()
    while True:
        told = yield from _mail(job, until)
        if told is not None:
            return told
        now: float = yield Now()
        stop, moves_on = _stop_at(job, until)
        left = stop - now
        if left < rhythm.shortest:
            if left > 0:
                yield Sleep(left)
            if not moves_on or not (yield from _swap(job)):
                return None
            rhythm = _Rhythm()
            continue
        early = job.polled_at + rhythm.pause - now
        if early > 0:
            yield Sleep(min(early, left))
            continue
        yield Announce(Waiting(until - now, left if moves_on else None))
        seconds = min(LAST_POLL if job.mail else LONGEST_POLL, math.floor(left))
        job.polled_at = now
        sms = yield from _poll(job, seconds, _last_moment(job, until), rhythm)
        if sms is not None:
            return sms
        if rhythm.over or standing(job.need_order()).how in (How.CANCELLED, How.EXPIRED):
            return None


def _mail(job: Job, until: float) -> Generator[Effect, Any, SmsResult | None]:
    """What webhooks tell. None: nothing, and it is time for a poll (see LAST_POLL)."""
    order_id = job.need_order().order_id
    told = False
    while job.mail:
        try:
            mail: tuple[Sms, ...] = yield CheckMail(order_id)
        except Exception as error:  # noqa: BLE001  whatever keeps it: the service knows as much
            job.mail = False
            warning = f"webhooks cannot be read, so it polls: {one_line(str(error))}"
            job.warnings.append(warning)
            yield Announce(Paused(0, warning))
            return None
        if (news := _of_mail(job, mail)) is not None:
            return news
        now: float = yield Now()
        stop, moves_on = _stop_at(job, until)
        left = stop - LAST_POLL - now
        hints = sum(not sms.content and _code_in(sms) is None for sms in mail)
        if left <= 0 or hints > job.hints:
            job.hints = hints
            return None
        if not told:
            told = True
            yield Announce(Waiting(until - now, stop - now if moves_on else None))
        yield Sleep(min(MAIL_INTERVAL, left))
    return None


def _of_mail(job: Job, mail: tuple[Sms, ...]) -> SmsResult | None:
    """What was not told before, as an answer to a poll tells it.

    Of an event with a code and no text `content` is empty; one with neither is only a hint.
    """
    received = SmsResult(status=OrderStatus.RECEIVED, messages=mail)
    own = job.inbox.own(received).messages
    texts = received.model_copy(update={"messages": tuple(sms for sms in own if sms.content)})
    if texts.messages and has_news(job, texts):
        from x402sms.virtualsms import codes  # noqa: PLC0415  40 ms of compiling, when needed

        newest = codes.newest(job.inbox.latest) or job.inbox.latest[-1]
        return texts.model_copy(update={"text": newest.content, "code": _code_in(newest)})
    for code in (_code_in(sms) for sms in own if not sms.content):
        bare = SmsResult(status=OrderStatus.RECEIVED, code=code)
        if code is not None and has_news(job, bare):
            return bare
    return None


def _code_in(sms: Sms) -> str | None:
    """What the service took for the code, where its event said so."""
    code = (sms.model_extra or {}).get("code")
    return code if isinstance(code, str) and code else None


@dataclass
class _Rhythm:
    """Of the polls of one number. What is left at the end of a long one is not worth another."""

    pause: float = SHORTEST_INTERVAL  # from the beginning of the last to that of the next
    shortest: float = 1
    failed: int = 0
    over: bool = False  # the service says that the order has ended
    least: float = 1  # seconds that the next 429 is waited out
    refused: dict[int, str] = field(default_factory=dict)  # seconds -> intent that may be paid


def _poll(
    job: Job, seconds: int, until: float, rhythm: _Rhythm
) -> Generator[Effect, Any, SmsResult | None]:
    """One long-poll. Raises what failed for good, or too often."""
    order = job.need_order()
    rhythm.pause = SHORTEST_INTERVAL
    rhythm.shortest = 1 if job.mail else SHORTEST_INTERVAL  # polls are short there
    asked: float = yield Now()
    try:
        # The same poll has the same payment, so that what was refused is not paid for twice.
        call = calls.wait_for_sms(order.order_id, seconds)
        sms: SmsResult = yield Make(call, rhythm.refused.pop(seconds, None))
    except OrderExpired:
        rhythm.over = True
        return (yield from _after_its_end(job))
    except RateLimited as limited:
        if limited.receipt is not None:
            rhythm.refused[seconds] = limited.receipt.intent
        # Not waited out by `make`: what is left then may be less than this poll.
        yield from wait_out(limited, until=until, least=rhythm.least)
        rhythm.least = min(2 * rhythm.least, LONGEST_PAUSE)
        return None
    except PASSING as error:
        rhythm.failed += 1
        if rhythm.failed >= MOST_FAILED_POLLS:
            raise
        rhythm.pause = rhythm.failed * SHORTEST_INTERVAL
        yield Announce(Paused(rhythm.pause, one_line(str(error))))
        return None
    rhythm.failed = 0
    answered: float = yield Now()
    if answered - asked < seconds / 2:  # it holds no poll: each that is made costs the same
        rhythm.pause = LONGEST_INTERVAL
    if has_news(job, sms):
        return sms
    job.order = order = order.model_copy(update={"status": sms.status})
    if order.is_final:
        return (yield from _after_its_end(job))
    return None


def _stop_at(job: Job, until: float) -> tuple[float, bool]:
    """Until when this number is listened to, and whether it is swapped or left then."""
    order = job.need_order()
    until = _last_moment(job, until)
    swaps_left = job.swaps < job.terms.max_swaps and not job.no_replacement
    worth_it = until - job.swap_at >= SHORTEST_LISTEN
    silent = not (job.is_rental or order.has_sms)
    moves_on = silent and worth_it and (swaps_left or job.numbers_left > 0)
    return (job.swap_at, True) if moves_on else (until, False)


def _last_moment(job: Job, until: float) -> float:
    """`until`, or while there is time to cancel: what expires is perhaps not refunded."""
    ends = job.moments.expires_at
    if ends is None or job.is_rental or job.need_order().has_sms:
        return until
    return min(until, ends - LAST_CALL)


def has_news(job: Job, sms: SmsResult) -> bool:
    """Whether an answer tells what was not told before; what it tells counts as told."""
    own = job.inbox.own(sms)
    carried = messages_of(own)
    if carried:
        return bool(job.inbox.add(carried))
    if own is not sms:
        return False
    if not sms.has_sms:
        return False
    if sms.code:  # a code without its text: told once
        known = job.code is not None and sms.code == job.code.code
        return not known and job.inbox.add_code(sms.code)
    return job.code is None and not job.inbox.has_told


def _swap(job: Job) -> Generator[Effect, Any, bool]:
    """Another number for the same order. False: this one is given up."""
    order = job.need_order()
    if job.swaps >= job.terms.max_swaps or job.no_replacement:
        return False
    now: float = yield Now()
    until = now + DEFAULT_HOLD
    try:
        answer: Order = yield from make(calls.swap_order(order.order_id), until=until)
        if answer.phone_number is None:
            answer = (yield from look(merged(order, answer), until=until)).order
    except CooldownActive as cooldown:
        hold = DEFAULT_HOLD if cooldown.retry_after is None else cooldown.retry_after
        job.swap_at = now + max(SHORTEST_INTERVAL, min(hold, LONGEST_HOLD))
        return _refused(job)
    except (NoStock, NotFound):
        job.no_replacement = True
        return False
    except (ValidationFailed, OrderAlreadyConfirmed, OrderExpired, *PASSING):
        # Received a moment ago, or swapped and the answer lost: the order says.
        end = yield from look(order, until=until)
        answer = end.order
        same = digits_of(order.phone_number) == digits_of(answer.phone_number)
        if end.how in (How.CANCELLED, How.EXPIRED) or (same and end.how is How.RECEIVED):
            job.order = answer
            return end.how is How.RECEIVED
        if same:
            job.swap_at = now + SHORTEST_LISTEN
            return _refused(job)
    job.swaps += 1
    yield from hold_number(job, merged(order, answer), fresh=False)
    yield Announce(Swapped(job.need_order()))
    return True


def _refused(job: Job) -> bool:
    """The number is kept for now, unless that was said often enough."""
    job.refused_swaps += 1
    job.no_replacement = job.refused_swaps >= MOST_REFUSED_SWAPS
    return not job.no_replacement


def _after_its_end(job: Job) -> Generator[Effect, Any, SmsResult | None]:
    """The service ended the order. If an SMS came before that, it is still a code."""
    now: float = yield Now()
    end = yield from look(job.need_order(), until=now + DEFAULT_HOLD)
    job.order = end.order
    if end.how is How.OPEN and job.is_rental:  # it cannot be asked, or says nothing of it
        job.order = end.order.model_copy(update={"status": OrderStatus.EXPIRED})
    came = end.how is How.RECEIVED and has_news(job, as_result(end.order))
    return as_result(end.order) if came else None


def as_result(order: Order) -> SmsResult:
    return SmsResult(status=order.status, messages=order.messages)
