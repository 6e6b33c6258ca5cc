"""Events, their signatures, and what can befall their delivery: in process, without a socket."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from decimal import Decimal
from typing import Any

import pytest

from tests.sandbox.paying import encode
from tests.sandbox.reaching import WAYS, AnySandbox, Way, let_in, reached
from x402sms.errors import ConfigError
from x402sms.sandbox import WEBHOOK_FAULTS, Fault, SandboxConfig, Webhook, asgi_sandbox
from x402sms.sandbox.config import WebhookForm
from x402sms.virtualsms.webhooks import UnknownEvent, parse_event, verify_signature

ORDER = {"service": "telegram", "country": "US"}


def _event(webhook: Webhook) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(webhook.body)
    return event


def _types(sandbox: AnySandbox) -> list[str]:
    return [_event(webhook)["type"] for webhook in sandbox.webhooks()]


def _signed_by(webhook: Webhook, secret: str) -> bool:
    given = webhook.headers["X-VirtualSMS-Signature"].removeprefix("sha256=")
    return hmac.new(secret.encode(), webhook.body, hashlib.sha256).hexdigest() == given


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", ["hex", "sha256"])
def test_an_sms_is_a_signed_event(form: WebhookForm, way: Way) -> None:
    with reached(way, webhook_form=form, webhook_secret="whsec_1") as (sandbox, buyer):
        order = buyer.order()
        sandbox.deliver_sms(order["order_id"], "PIN 5521", sender="Acme")
        (webhook,) = sandbox.wait_for_webhooks(1)
        event = _event(webhook)
        assert re.fullmatch("evt_[0-7][0-9A-HJKMNP-TV-Z]{25}", event["id"])
        assert (event["type"], event["account_id"]) == ("order.sms_received", buyer.address)
        received_at = event["data"].pop("received_at")
        assert received_at == event["created_at"]
        assert event["data"] == {
            "order_id": order["order_id"],
            "phone_number": order["phone_number"],
            "service": "telegram",
            "country": "US",
            "code": "5521",
            "full_text": "PIN 5521",
            "sender": "Acme",
        }
        assert _signed_by(webhook, "whsec_1")
        signature = webhook.headers["X-VirtualSMS-Signature"]
        assert re.fullmatch("(sha256=)?[0-9a-f]{64}", signature)
        assert signature.startswith("sha256=") == (form == "sha256")
        assert int(webhook.headers["X-VirtualSMS-Timestamp"]) == pytest.approx(time.time(), abs=60)
        assert webhook.headers["X-VirtualSMS-Delivery"].startswith("dlv_")
        assert webhook.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("action", "sms", "types"),
    [
        ("swap", False, ["order.swapped"]),
        ("cancel", False, ["order.cancelled"]),
        ("confirm", True, ["order.sms_received", "order.confirmed"]),
    ],
)
@pytest.mark.parametrize("keyed", [False, True], ids=["wallet", "account"])
def test_what_is_done_to_an_order_is_an_event(
    keyed: bool, action: str, sms: bool, types: list[str]
) -> None:
    with reached() as (sandbox, buyer):
        if keyed:
            buyer.http.headers["Authorization"] = f"Bearer {sandbox.api_key}"
        post = (lambda *a, **b: buyer.http.post(*a, **b).json()) if keyed else buyer.post
        order = post("/orders", json=ORDER)
        if sms:
            sandbox.deliver_sms(order["order_id"], "code 1234")
        done = post(f"/orders/{order['order_id']}/{action}")
        assert _types(sandbox) == types
        event = _event(sandbox.webhooks()[-1])
        assert event["account_id"] == (sandbox.account if keyed else buyer.address)
        assert event["data"]["order_id"] == order["order_id"]
        if action == "swap":
            assert event["data"]["phone_number"] == done["phone_number"]
            assert event["data"]["previous_number"] == order["phone_number"]
        if action == "cancel":
            assert event["data"]["refund_amount"] == done["refund_amount"]


def test_what_is_refused_is_no_event() -> None:
    with reached(cooldown=120) as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        for action in ("swap", "cancel", "confirm"):
            assert buyer.pay("POST", f"/orders/{order_id}/{action}").status_code >= 400
        assert sandbox.webhooks() == []


def test_what_does_not_settle_is_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    with reached(dialect="v1") as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        challenge = buyer.ask("POST", f"/orders/{order_id}/cancel")

        async def refuse(*payment: object) -> str:
            raise TimeoutError

        monkeypatch.setattr(sandbox.state.settlement, "settle", refuse)
        document = buyer.wallet.document(challenge)
        failed = buyer.send("POST", f"/orders/{order_id}/cancel", encode(document))
        assert failed.status_code == 500
        assert sandbox.webhooks() == []
        assert sandbox.orders_of(buyer.address) == [(order_id, "waiting")]


def test_what_a_call_with_a_key_does_twice_under_one_name_is_one_event() -> None:
    with let_in() as (sandbox, http):
        order_id = http.post("/orders", json=ORDER).json()["order_id"]
        for _ in range(2):
            http.post(f"/orders/{order_id}/cancel", headers={"Idempotency-Key": "a"})
        assert _types(sandbox) == ["order.cancelled"]


# --- when


def test_an_sms_that_was_due_is_an_event_once_the_clock_is_there() -> None:
    with let_in(virtual_time=True, sms_after=30) as (sandbox, http):
        begun = sandbox.now()
        first, second = (http.post("/orders", json=ORDER).json() for _ in range(2))
        sandbox.advance(29)
        assert sandbox.webhooks() == []
        sandbox.advance(100)
        events = [_event(webhook) for webhook in sandbox.webhooks()]
        assert [e["data"]["order_id"] for e in events] == [first["order_id"], second["order_id"]]
        (shown,) = {event["created_at"] for event in events}
        assert (
            shown == http.get(f"/orders/{first['order_id']}").json()["messages"][0]["received_at"]
        )
        assert sandbox.now() == begun + 129


def test_what_is_due_at_several_orders_happens_in_its_own_order() -> None:
    with let_in(virtual_time=True, order_seconds=100, vocabulary="live") as (sandbox, http):
        sandbox.plan_sms(after=90)
        sandbox.plan_sms(after=20)
        late, early = (http.post("/orders", json=ORDER).json()["order_id"] for _ in range(2))
        sandbox.advance(95)
        told = [_event(webhook)["data"]["order_id"] for webhook in sandbox.webhooks()]
        assert told == [early, late]


@pytest.mark.parametrize("look", ["poll", "get", "webhooks", "control"])
def test_an_sms_is_an_event_at_the_latest_when_somebody_looks(look: str) -> None:
    with let_in(sms_after=0) as (sandbox, http):
        order_id = http.post("/orders", json=ORDER).json()["order_id"]
        if look == "control":
            (event,) = http.get(f"{sandbox.origin}/_sandbox/webhooks").json()
            assert event["type"] == "order.sms_received"
            assert json.loads(event["body"])["data"]["order_id"] == order_id
            assert event["deliveries"][0]["attempts"] == []
        elif look != "webhooks":
            http.get(f"/orders/{order_id}" + ("/sms" if look == "poll" else ""))
            assert len(sandbox.state.webhooks.events) == 1
        assert _types(sandbox) == ["order.sms_received"]


@pytest.mark.parametrize("vocabulary", ["reference", "live"])
@pytest.mark.parametrize("form", ["hex", "sha256"])
def test_whoever_verifies_and_parses_it_agrees(form: WebhookForm, vocabulary: str) -> None:
    config: dict[str, Any] = {"webhook_form": form, "vocabulary": vocabulary}
    with let_in(virtual_time=True, order_seconds=100, **config) as (sandbox, http):
        orders = [http.post("/orders", json=ORDER).json()["order_id"] for _ in range(4)]
        for order_id, action in zip(orders, ("swap", "cancel", "confirm"), strict=False):
            if action == "confirm":
                sandbox.deliver_sms(order_id, "code 1234")
            http.post(f"/orders/{order_id}/{action}")
        sandbox.fund(sandbox.account, 5)
        sandbox.advance(100)
        webhooks = sandbox.webhooks()
        assert len(webhooks) == (5 if vocabulary == "reference" else 7)
        for webhook in webhooks:
            verify_signature(
                webhook.body,
                webhook.headers["X-VirtualSMS-Signature"],
                sandbox.webhook_secret,
                timestamp=webhook.headers["X-VirtualSMS-Timestamp"],
                now=time.time(),
            )
            parsed = parse_event(webhook.body)
            assert not isinstance(parsed, UnknownEvent)
            assert (parsed.id, parsed.account_id) == (_event(webhook)["id"], sandbox.account)


@pytest.mark.parametrize("way", WAYS)
def test_who_waits_for_a_webhook_need_not_poll(way: Way) -> None:
    with let_in(way, sms_after=0.05) as (sandbox, http):
        http.post("/orders", json=ORDER)
        (webhook,) = sandbox.wait_for_webhooks(1)
        assert _event(webhook)["type"] == "order.sms_received"
        with pytest.raises(TimeoutError, match="1 webhooks, not 2"):
            sandbox.wait_for_webhooks(2, timeout=0.01)


@pytest.mark.anyio
async def test_beside_the_async_transport_what_is_there_can_be_taken() -> None:
    with asgi_sandbox() as sandbox:
        sandbox.fund(sandbox.account, 5)
        (webhook,) = sandbox.wait_for_webhooks(1)
        assert _event(webhook)["type"] == "balance.deposited"
        with pytest.raises(RuntimeError, match="needs no waiting"):
            sandbox.wait_for_webhooks(2)


def test_a_window_that_ends_confirms_what_was_received() -> None:
    with let_in(virtual_time=True, order_seconds=100) as (sandbox, http):
        order_id = http.post("/orders", json=ORDER).json()["order_id"]
        sandbox.deliver_sms(order_id, "code 1234")
        sandbox.advance(100)
        assert _types(sandbox) == ["order.sms_received", "order.confirmed"]


# --- vocabularies


@pytest.mark.parametrize(
    ("vocabulary", "types"),
    [
        ("reference", ["order.sms_received"]),
        ("live", ["balance.low", "sms.received", "order.expired"]),
    ],
)
def test_each_vocabulary_has_its_own_types(vocabulary: str, types: list[str]) -> None:
    config: dict[str, Any] = {"vocabulary": vocabulary, "account_balance": Decimal("1.20")}
    with let_in(virtual_time=True, order_seconds=100, **config) as (sandbox, http):
        sandbox.plan_sms(after=5)
        http.post("/orders", json=ORDER)
        sandbox.advance(10)
        http.post("/orders", json=ORDER)  # low already: that is told once
        sandbox.advance(100)
        told = [event for event in _types(sandbox) if event != "order.confirmed"]
        assert told == types
        if vocabulary == "live":
            low, received = (_event(webhook)["data"] for webhook in sandbox.webhooks()[:2])
            assert low == {"balance": "0.9895", "currency": "USD"}
            assert received["phone_number"].startswith("1555")


# --- faults


def _two_events(**config: Any) -> tuple[list[Webhook], str]:
    """What is made of two deposits, and the secret."""
    with asgi_sandbox(SandboxConfig(**config)) as sandbox:
        for amount in (1, 2):
            sandbox.fund(sandbox.account, amount)
        return sandbox.webhooks(), sandbox.webhook_secret


def _amounts(webhooks: list[Webhook]) -> list[str]:
    return [_event(webhook)["data"]["amount"] for webhook in webhooks]


@pytest.mark.parametrize(
    ("fault", "amounts"),
    [
        (None, ["1.00", "2.00"]),
        ("webhook-lost", []),
        ("webhook-duplicate", ["1.00", "1.00", "2.00", "2.00"]),
        ("webhook-reorder", ["2.00", "1.00"]),
        ("webhook-forged", ["1.00", "1.00", "2.00", "2.00"]),
        ("webhook-stale", ["1.00", "2.00"]),
    ],
)
def test_a_fault_decides_what_arrives(fault: str | None, amounts: list[str]) -> None:
    webhooks, _ = _two_events(faults={fault: 1} if fault else {})
    assert _amounts(webhooks) == amounts
    assert len({webhook.headers["X-VirtualSMS-Delivery"] for webhook in webhooks}) == len(amounts)
    assert len({_event(webhook)["id"] for webhook in webhooks}) == len(set(amounts))


def test_a_forged_one_comes_first_and_is_signed_with_another_secret() -> None:
    webhooks, secret = _two_events(faults={"webhook-forged": 1})
    assert [_signed_by(webhook, secret) for webhook in webhooks] == [False, True, False, True]


def test_a_stale_one_is_rightly_signed_and_hours_old() -> None:
    webhooks, secret = _two_events(faults=[Fault("webhook-stale", times=1)])
    stale, fresh = (int(webhook.headers["X-VirtualSMS-Timestamp"]) for webhook in webhooks)
    assert 3600 < fresh - stale < 24 * 3600
    assert all(_signed_by(webhook, secret) for webhook in webhooks)


def test_faults_come_together_and_are_counted() -> None:
    faults = dict.fromkeys(WEBHOOK_FAULTS, 1.0) | {"webhook-lost": 0}
    with asgi_sandbox(SandboxConfig(faults=faults)) as sandbox:
        for amount in (1, 2, 3):
            sandbox.fund(sandbox.account, amount)
        # A pair changes places; the third waits for a fourth.
        assert _amounts(sandbox.webhooks()) == ["2.00"] * 3 + ["1.00"] * 3
        struck = dict.fromkeys(WEBHOOK_FAULTS, 3) | {"webhook-reorder": 2}
        del struck["webhook-lost"]
        assert sandbox.faults_struck() == struck


def test_the_same_seed_makes_the_same_events() -> None:
    def drawn(seed: int) -> list[str]:
        webhooks, _ = _two_events(seed=seed)
        return [_event(webhook)["id"][-16:] for webhook in webhooks]

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize("wrong", [{"route": "POST /orders"}, {"paid": True}], ids=str)
def test_a_webhooks_fault_is_aimed_at_no_route(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="befalls webhooks"):
        Fault("webhook-lost", **wrong)


def test_a_sandbox_without_a_server_posts_nothing() -> None:
    config = SandboxConfig(webhook_url="http://127.0.0.1:9/")
    with pytest.raises(ConfigError, match="posts no webhooks"), asgi_sandbox(config):
        pass


def test_secrets_are_fresh_each_time() -> None:
    with asgi_sandbox() as first, asgi_sandbox() as second:
        assert first.webhook_secret != second.webhook_secret
