"""The long-poll: wait for an SMS until the time is up, the caller is gone or the server stops."""

from __future__ import annotations

import asyncio

from fastapi import Request

from x402sms.sandbox.clock import Bell
from x402sms.sandbox.orders import ACTIVE, Order, Status
from x402sms.sandbox.problems import Problem
from x402sms.sandbox.state import Sandbox


async def wait_for_sms(sandbox: Sandbox, order: Order, seconds: int, request: Request) -> None:
    """Return when a poll of `order` has something to say, at the latest after `seconds` of the
    sandbox's time. Raises Problem if nothing may be said, and so nothing may be charged."""
    deadline = sandbox.clock.now() + seconds
    if sandbox.config.virtual_time:
        while not _decided(sandbox, order, deadline):
            sandbox.clock.reach(min(deadline, sandbox.orders.next_change(order)))
        return
    gone = asyncio.create_task(_until_gone(request, sandbox.bell))
    try:
        with sandbox.poll():
            while not _decided(sandbox, order, deadline):
                if gone.done():
                    raise Problem(499, "client-closed-request", "The caller is gone")
                if sandbox.closing:
                    raise Problem(503, "shutting-down", "The sandbox is shutting down")
                until = min(deadline, sandbox.orders.next_change(order))
                # From the checks above to this wait there is no await: no ring goes unheard.
                await sandbox.bell.wait(until - sandbox.clock.now())
    finally:
        gone.cancel()
        await asyncio.wait([gone])


def _decided(sandbox: Sandbox, order: Order, deadline: float) -> bool:
    sandbox.orders.refresh(order)
    if order.newest is not None:
        return True
    if order.status is Status.EXPIRED:
        raise Problem(410, "order-expired", f"The window of order {order.order_id} has passed")
    return order.status not in ACTIVE or sandbox.clock.now() >= deadline


async def _until_gone(request: Request, bell: Bell) -> None:
    """The body is read already, so the next thing to receive is the disconnect."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    bell.ring()
