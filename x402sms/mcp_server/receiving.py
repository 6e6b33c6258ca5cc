"""`receive_code`: start a job and get its number, then wait for its code."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from x402sms.mcp_server import inputs, results
from x402sms.mcp_server.desk import Job
from x402sms.mcp_server.request import Request

OPENING_SECONDS = 180  # within which a number is bought, as the job itself has it
CONFIRMING_SECONDS = 5  # a code that is there is not kept from the agent for longer


async def receive_code(request: Request, given: inputs.ReceiveCode) -> results.JobState:
    """Start where a service is given, else wait. A call that is cancelled ends its job."""
    if given.job_id is None:
        job = request.desk.start(given)
        await _watch(request, job, OPENING_SECONDS, lambda: job.order is not None)
    else:
        job = request.desk.get(given.job_id)
        await _watch(request, job, given.wait_seconds, lambda: _is_news(job))
    if job.received is not None and not job.over.is_set():
        await _watch(request, job, CONFIRMING_SECONDS, job.over.is_set)
    if job.error is not None and job.code is None:
        raise job.error
    state = _state(request, job)
    job.told_number = state.phone_number
    return state


def _is_news(job: Job) -> bool:
    return job.received is not None or job.number_changed


async def _watch(request: Request, job: Job, seconds: float, done: Callable[[], bool]) -> None:
    """Until `done`, the end of the job, or so many seconds are over."""
    try:
        async with request.ticking(seconds, lambda: _doing(job)):
            with anyio.move_on_after(seconds):
                while not (done() or job.over.is_set()):
                    await job.news.wait()
    except anyio.get_cancelled_exc_class():
        job.stop()
        raise


def _doing(job: Job) -> str:
    if job.received is not None:
        return "the SMS is there; confirming the order"
    if job.held_for is not None:
        return f"the service lets the order be cancelled in {job.held_for:.0f} s"
    if job.stopping:
        return "cancelling the order for its refund"
    if job.order is None:
        return "looking for the cheapest number and buying it"
    return f"waiting for the SMS to {job.order.phone_number}; {job.seconds_left} s left"


def _state(request: Request, job: Job) -> results.JobState:
    order = job.order if job.code is None else job.code.order
    status = _status(job)
    code, text = (job.received.code, job.received.text) if job.received else (None, None)
    if job.code is not None:
        code, text = job.code.code, job.code.text
    bought = [each for each in request.session.receipts if _is_of(each.intent, job.intent)]
    return results.JobState(
        payment=results.Payment.of_receipts(bought),
        job_id=job.id,
        status=status,
        order_id=None if order is None else order.order_id,
        phone_number=None if order is None else order.phone_number,
        previous_numbers=list(job.previous),
        service=job.asked.service or "",
        country=None if order is None else order.country,
        price=None if order is None else order.price,
        intent=job.intent,
        expires_at=None if order is None else order.expires_at,
        seconds_left=job.seconds_left,
        code=code,
        text=text,
        cost=job.verification.cost,
        refunded=job.verification.refunded,
        warnings=[] if job.code is None else list(job.code.warnings),
        next_step=_NEXT[status],
    )


def _status(job: Job) -> results.JobStatus:
    if job.received is not None or job.code is not None:
        return "received"
    if job.stopping:
        return "cancelling"
    if job.told_number is not None and job.number_changed:
        return "number_changed"
    return "waiting"


def _is_of(intent: str, job_intent: str) -> bool:
    """The payment of a job's first number, or of a later one."""
    return intent == job_intent or intent.startswith(f"{job_intent}#")


_NEXT: dict[results.JobStatus, str] = {
    "waiting": "Give phone_number to whoever sends the code, then call receive_code with this "
    "job_id to wait for it; call it again while the status is waiting.",
    "number_changed": "The number is another one now: give phone_number to whoever sends the code, "
    "then call receive_code with this job_id again.",
    "received": "Done: code is the code, text the whole SMS. There is nothing left to call.",
    "cancelling": "The order is being cancelled for its refund; call receive_code with this job_id "
    "to hear what came back.",
}
