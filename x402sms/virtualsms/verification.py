"""The job, "get me a code for SERVICE under PRICE", as generators of effects: no I/O, no clock.

It ends in one of two ways: a code, or every refundable cent back; and says which. Whoever drives
it performs each effect and sends the result back, or throws the failure in: so a time-out, an
error and Ctrl-C all pass through here, and an order that is still open is cancelled for its
refund before the failure goes on.

    open_job: resolve → offers under the ceiling → buy, the next cheapest where that fails
    wait:     long-poll ─ a code ──────────────────────────────────────────→ Code
                └ silent: swap → silent: cancel → the next number → … → NoCodeReceived
    close:    confirm what was received, cancel what was not
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from decimal import Decimal
from typing import Any

from x402sms.errors import APIError, NoCodeReceived, NoStock, SpendLimitExceeded, X402SMSError
from x402sms.money import usdc
from x402sms.text import one_line
from x402sms.virtualsms import calls
from x402sms.virtualsms.effects import Announce, Confirmed, Effect, Now, Received, Spent
from x402sms.virtualsms.ending import (
    DEFAULT_HOLD,
    End,
    How,
    announce,
    cancel,
    look,
    merged,
    standing,
)
from x402sms.virtualsms.inbox import messages_of, of_newest
from x402sms.virtualsms.job import CANCELLED, Code, Job, kept, left_open, told
from x402sms.virtualsms.listening import SHORTEST_LISTEN, as_result, listen
from x402sms.virtualsms.models import CONFIRMED_STATUSES, OrderStatus, Sms, SmsResult
from x402sms.virtualsms.opening import hold_number, may_go_on, next_number, open_job
from x402sms.virtualsms.patience import make


def wait(job: Job, timeout: float, *, give_up: bool = True) -> Generator[Effect, Any, Code]:
    """The next code within `timeout` seconds.

    Without one, a number is cancelled for its refund (a rental is kept; with `give_up` false any
    is), and NoCodeReceived says what came of it. An SMS that came first is returned all the same.
    """
    now: float = yield Now()
    until = now + timeout
    while True:
        sms = yield from listen(job, until)
        if sms is not None:
            return (yield from _received(job, sms))
        now = yield Now()
        over = until - now < SHORTEST_LISTEN
        if job.code is not None or job.is_rental or (over and not give_up):
            raise (yield from _no_sms(job, timeout))
        end = yield from end_number(job)
        if end is None:
            return (yield from _received(job, as_result(job.need_order())))
        now = yield Now()
        if until - now < SHORTEST_LISTEN or not may_go_on(job):
            raise (yield from _no_code(job, timeout, end))
        try:
            yield from next_number(job, until=until)
        except (NoStock, SpendLimitExceeded) as error:
            raise (yield from _no_code(job, timeout, end)) from error


def _received(job: Job, sms: SmsResult) -> Generator[Effect, Any, Code]:
    order = job.need_order()
    if not messages_of(sms) and not sms.code:
        # It says that an SMS came, and not which: the order may know.
        now: float = yield Now()
        end = yield from look(order, until=now + DEFAULT_HOLD)
        order = job.order = end.order
        if order.messages:
            sms = as_result(order)
    sms = job.inbox.own(sms)
    news = messages_of(sms) if job.code is None else job.inbox.latest
    job.inbox.add(messages_of(sms))
    sms = of_newest(sms, news) if messages_of(sms) else sms
    from x402sms.virtualsms import codes  # noqa: PLC0415  40 ms of compiling, when it is needed

    code, text = codes.code_of(sms, pattern=job.terms.pattern), codes.text_of(sms)
    doubt = None if code is None or job.terms.pattern else codes.doubt(code, text)
    warnings = [*job.warnings, *_left_before(job), *([] if doubt is None else [doubt])]
    if code is None:
        warnings.append("no code can be found in the text" if text else "the SMS has no text")
    job.order = order = order.model_copy(update={"status": sms.status})
    job.code = Code(code, text, order, order.price, (yield from cost(job)), tuple(warnings))
    yield Announce(Received(code, text))
    return job.code


def next_messages(job: Job, timeout: float) -> Generator[Effect, Any, list[Sms]]:
    """The messages that came and were not told yet, at least one; none within `timeout`."""
    now: float = yield Now()
    order = job.need_order()
    if order.phone_number is None:  # nothing is known of it yet
        call = calls.get_order(order.order_id)
        yield from hold_number(job, (yield from make(call, until=now + timeout)), fresh=False)
    sms = yield from listen(job, now + timeout)
    return [] if sms is None else list(job.inbox.latest)


def extend(job: Job, hours: int) -> Generator[Effect, Any, None]:
    """Buy more hours of a rental."""
    order = job.need_order()
    now: float = yield Now()
    longer = yield from make(calls.extend_rental(order.order_id, hours), until=now + DEFAULT_HOLD)
    job.order = merged(order, longer)


def release(job: Job) -> Generator[Effect, Any, None]:
    """End a rental early."""
    order = job.need_order()
    now: float = yield Now()
    ended = yield from make(calls.release_rental(order.order_id), until=now + DEFAULT_HOLD)
    job.order = merged(order, ended)


def cost(job: Job) -> Generator[Effect, Any, Decimal]:
    """USDC that the job has cost so far."""
    spent: Decimal = yield Spent()
    return spent + job.paid_before - job.refunded


def end_number(job: Job) -> Generator[Effect, Any, End | None]:
    """Cancel the present number. None: an SMS came first, and the order has it."""
    order = job.need_order()
    end = standing(order)
    if end.how is How.RECEIVED and not order.messages:
        now: float = yield Now()
        end = yield from look(order, until=now + DEFAULT_HOLD)
        order = end.order
    if end.how is How.OPEN or _is_only_late(job, end):
        end = yield from cancel(order, job.moments)
    else:
        yield from announce(end)
    job.inbox.number = end.order.phone_number  # it may have been swapped and nobody told us
    if _is_only_late(job, end):
        why = "an SMS came for the number that it had before a swap, and none for this one"
        end = replace(end, how=How.OPEN, why=why)
    job.order = end.order
    if end.how is How.RECEIVED:
        return None
    job.ends.append(end)
    job.order = None
    return end


def _is_only_late(job: Job, end: End) -> bool:
    """What came is not for the order's present number."""
    sms = as_result(end.order)
    return end.how is How.RECEIVED and bool(sms.messages) and not job.inbox.own(sms).messages


def close(job: Job) -> Generator[Effect, Any, End | None]:
    """Confirm what was received, cancel what was not; a rental is kept.

    The End is of an order that was cancelled, or could not be. An SMS that came first is kept as
    `job.code`.
    """
    order = job.order
    if order is None or job.is_rental:
        return None
    if job.code is None:
        end = yield from end_number(job)
        if end is not None:
            return end
        yield from _received(job, as_result(job.need_order()))
    yield from _confirm(job)
    return None


def _confirm(job: Job) -> Generator[Effect, Any, None]:
    """What fails is a warning: the code is there, and the order confirms itself in the end."""
    order, code = job.order, job.code
    if job.confirmed or order is None or code is None or order.status in CONFIRMED_STATUSES:
        return
    now: float = yield Now()
    try:
        yield from make(calls.confirm_order(order.order_id), until=now + DEFAULT_HOLD)
    except X402SMSError as error:
        sure = "could not" if isinstance(error, APIError) else "may not"
        warning = f"the order {order.order_id} {sure} be confirmed: {one_line(str(error), 300)}"
        code = replace(code, warnings=(*code.warnings, warning))
    else:
        yield Announce(Confirmed(order.order_id))
        order = order.model_copy(update={"status": OrderStatus.CONFIRMED})
    job.confirmed = True
    job.order, code = order, replace(code, order=order)
    job.code = replace(code, cost=(yield from cost(job)))


def _no_sms(job: Job, timeout: float) -> Generator[Effect, Any, NoCodeReceived]:
    order = job.need_order()
    end = standing(order)
    over = end.how in (How.CANCELLED, How.EXPIRED)
    kept_one = f"the number {order.phone_number or ''} of order {order.order_id} is kept"
    return NoCodeReceived(
        f"no {'further ' if job.code else ''}SMS within {timeout:.0f} s; "
        f"{told(end) if over else kept_one}",
        order_id=order.order_id,
        cancelled=CANCELLED[end.how],
        cost=(yield from cost(job)),
    )


def _no_code(job: Job, timeout: float, end: End) -> Generator[Effect, Any, NoCodeReceived]:
    spent = yield from cost(job)
    return NoCodeReceived(
        f"no SMS within {timeout:.0f} s; {'; '.join(told(each) for each in job.ends)}; it cost "
        f"{usdc(spent)} USDC in all",
        order_id=end.order.order_id,
        cancelled=CANCELLED[end.how],
        refunded=job.refunded,
        cost=spent,
    )


def receive_code(
    job: Job, timeout: float = 180, *, resume: bool = False
) -> Generator[Effect, Any, Code]:
    """The whole job: open, wait, leave. Raises what they raise."""
    try:
        yield from open_job(job, resume=resume)
        code = yield from wait(job, timeout)
    except GeneratorExit:
        raise
    except BaseException as error:
        received = job.code
        yield from close_after(job, error)
        if received is not None:
            error.add_note(f"the SMS was there before that: {received.code or received.text}")
        if not isinstance(error, Exception) or job.code is None or received is not None:
            raise
        warning = f"something went wrong before its SMS was there: {one_line(str(error), 300)}"
        return replace(job.code, warnings=(*job.code.warnings, warning))
    yield from leave(job)
    return job.code or code


def enter(job: Job, *, resume: bool = False) -> Generator[Effect, Any, None]:
    """`open_job`; what fails after the purchase, such as telling the number, cancels it."""
    try:
        yield from open_job(job, resume=resume)
    except GeneratorExit:
        raise
    except BaseException as error:
        yield from close_after(job, error)
        raise


def leave(job: Job) -> Generator[Effect, Any, None]:
    """Close. Raises NoCodeReceived for an order that could not be cancelled."""
    try:
        end = yield from close(job)
    except GeneratorExit:
        raise
    except BaseException as error:
        yield from close_after(job, error)
        raise
    if end is not None and end.how is How.OPEN:
        raise NoCodeReceived(
            told(end), order_id=end.order.order_id, cancelled=False, cost=(yield from cost(job))
        )


def close_after(job: Job, error: BaseException) -> Generator[Effect, Any, None]:
    """Close, and note to `error` what became of the order. A second Ctrl-C leaves it open."""
    for said in _left_before(job):
        if said not in str(error):
            error.add_note(said)
    order = job.order
    if order is None:
        return
    try:
        end = yield from close(job)
    except GeneratorExit:
        raise
    except BaseException as second:
        second.add_note(left_open(order))
        raise
    if end is not None:
        error.add_note(told(end))
        if isinstance(error, NoCodeReceived) and error.order_id == end.order.order_id:
            error.cancelled, error.refunded = CANCELLED[end.how], job.refunded
            error.cost = yield from cost(job)
    elif job.is_rental:
        error.add_note(kept(order))


def _left_before(job: Job) -> list[str]:
    """Of the numbers before the present one, those that are not known to be cancelled."""
    return [told(end) for end in job.ends if end.how is not How.CANCELLED]
