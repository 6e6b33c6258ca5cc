"""Inbound notifications: your own web app gets the service's webhooks, each once.

    X402SMS_WEBHOOK_SECRET=... python examples/webhook_receiver.py

The events are kept in webhooks.db. A job that is told of that file ends on the event, not on a
paid poll: `Client(webhooks="webhooks.db")`, or X402SMS_WEBHOOKS=webhooks.db for the commands.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route

from x402sms.webhooks import BalanceLow, Event, EventStore, SmsReceived, WebhookReceiver


def on_event(event: Event) -> None:
    """Runs after the answer; what it raises is logged, and it gets the event again later."""
    if isinstance(event, SmsReceived):
        print(f"{event.data.phone_number} got: {event.data.full_text!r}", flush=True)
    elif isinstance(event, BalanceLow):
        print(f"top up: {event.data.balance} left", flush=True)


def create_app() -> Starlette:
    store = EventStore("webhooks.db")
    receiver = WebhookReceiver(os.environ["X402SMS_WEBHOOK_SECRET"], store, on_event)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await receiver.catch_up()  # what a crash left
        yield
        store.close()

    # In FastAPI: app.router.routes.append(Route("/virtualsms", receiver))
    return Starlette(routes=[Route("/virtualsms", receiver)], lifespan=lifespan)


if __name__ == "__main__":
    uvicorn.run(create_app(), port=8403)
