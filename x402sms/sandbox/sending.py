"""The part of the sandbox that acts without being asked: it keeps time, and posts webhooks."""

from __future__ import annotations

import asyncio
import ssl

import httpx

from x402sms.sandbox.state import Sandbox
from x402sms.sandbox.webhooks import Delivery

_PATIENCE = 5  # seconds for an endpoint to answer
# Loopback is plain HTTP; reading the machine's certificates takes long.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def keep_time(sandbox: Sandbox) -> None:
    """Let happen to the orders what is due, when it is due, until cancelled."""
    while True:
        due = sandbox.orders.catch_up()
        # Virtual time moves only where it is moved, and that rings.
        waits = due is not None and not sandbox.config.virtual_time
        await sandbox.bell.wait(due - sandbox.clock.now() if due and waits else None)


async def send_webhooks(sandbox: Sandbox, url: str) -> None:
    """Post every delivery to `url` until cancelled: the first attempts one after the other, in
    the order in which they were made, later ones in the background."""
    webhooks = sandbox.webhooks
    http = httpx.AsyncClient(timeout=_PATIENCE, trust_env=False, verify=_NO_TLS)
    async with http, asyncio.TaskGroup() as tasks:
        tasks.create_task(keep_time(sandbox))
        while True:
            while webhooks.tried < len(webhooks.deliveries):
                delivery = webhooks.deliveries[webhooks.tried]
                taken = await _post(http, url, delivery)
                webhooks.tried += 1
                webhooks.bell.ring()
                if delivery.genuine and not taken:
                    tasks.create_task(_try_again(sandbox, http, url, delivery))
            await webhooks.bell.wait(None)


async def _try_again(
    sandbox: Sandbox, http: httpx.AsyncClient, url: str, delivery: Delivery
) -> None:
    """By the orders' clock, so that a test can move it there; in virtual time at once."""
    clock = sandbox.clock
    for seconds in sandbox.config.webhook_retry_seconds:
        due = clock.now() + (0 if sandbox.config.virtual_time else seconds)
        while (left := due - clock.now()) > 0:
            await sandbox.bell.wait(left)
        delivery.stamp = int(sandbox.chain_clock.now())
        taken = await _post(http, url, delivery)
        sandbox.webhooks.bell.ring()
        if taken:
            return


async def _post(http: httpx.AsyncClient, url: str, delivery: Delivery) -> bool:
    """Whether the endpoint took it: any 2xx."""
    webhook = delivery.webhook()
    status = None
    try:
        # Of the answer only the status is read.
        async with http.stream("POST", url, content=webhook.body, headers=webhook.headers) as got:
            status = got.status_code
    except httpx.HTTPError:
        pass
    delivery.attempts.append(status)
    return status is not None and 200 <= status < 300
