"""Whatever the sandbox's own OpenAPI allows, and much that it does not: no 500, and its schemas.

Four ways in: unpaid, so that all ends at the gate; free, so that every endpoint is behind none;
free in the live vocabulary, which the schemas do not describe; and with an API key.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode

from tests.sandbox.reaching import reached
from x402sms.sandbox import SandboxConfig, create_app
from x402sms.sandbox.endpoints import ENDPOINTS
from x402sms.sandbox.gate import FREE_WALLET
from x402sms.sandbox.orders import Order
from x402sms.sandbox.payments import PaymentRecord
from x402sms.sandbox.state import Sandbox

EXAMPLES = 25
WITH_A_KEY = 10  # the endpoints are the same; what differs is who is let in
KEY = "sk_test_of_the_fuzzer"
WAYS_IN: dict[str, SandboxConfig] = {
    "unpaid": SandboxConfig(),
    "free": SandboxConfig(free=True, virtual_time=True),
    "live": SandboxConfig(free=True, virtual_time=True, vocabulary="live"),
    "key": SandboxConfig(api_key=KEY, account_balance=Decimal(10**6), virtual_time=True),
}
APPS = {name: create_app(config) for name, config in WAYS_IN.items()}
SCHEMAS = {name: schemathesis.openapi.from_asgi("/openapi.json", app) for name, app in APPS.items()}
OPERATIONS = [
    f"{method.upper()} {path}"
    for path, methods in APPS["free"].openapi()["paths"].items()
    for method in methods
]

load_all_checks()
NO_500 = CHECKS.get_by_names(["not_a_server_error"])
AS_WRITTEN = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "response_headers_conformance",
    ]
)

HELD = ("waiting", "received", "rental", "ended")


def _cases(way_in: str, label: str) -> st.SearchStrategy[Any]:
    """What the schema allows, and what it does not, half and half."""
    method, path = label.split(" ", 1)
    operation = SCHEMAS[way_in][path][method]
    return st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))


def _held(sandbox: Sandbox, kind: str) -> Order:
    """An order in some state: made-up ids would only ever find none."""
    service, country = sandbox.catalogue.service("telegram"), sandbox.catalogue.country("US")
    assert service is not None
    assert country is not None
    hours = 24 if kind == "rental" else None
    owner = FREE_WALLET if sandbox.config.free else sandbox.account.account_id
    order, _ = sandbox.orders.create(owner, service, country, 1000, hours)
    none = "0x" + "0" * 64
    sandbox.orders.open(
        order,
        PaymentRecord(
            owner, sandbox.config.pay_to, 0, none, none, "POST", "/", order.order_id, 0.0
        ),
    )
    if kind == "received":
        sandbox.orders.deliver(order, "code 1234", None, None)
    if kind == "ended":
        sandbox.orders.cancel(order)
    return order


def _made_real(case: Any, sandbox: Sandbox, kind: str | None) -> None:
    """Put what exists in the place of made-up names, unless `kind` is None."""
    sandbox.schedule.set(())
    if kind is None:
        return
    sandbox.catalogue.set_stock(*_pair(sandbox), 100)
    real = {"order_id": _held(sandbox, kind).order_id, "service_id": "telegram", "iso2": "us"}
    real["address"] = FREE_WALLET
    given_parameters = case.path_parameters or {}
    given_parameters.update({name: real[name] for name in given_parameters if name in real})
    if isinstance(case.body, dict) and {"service", "country"} <= case.body.keys():
        case.body.update(service="telegram", country="US")


def _pair(sandbox: Sandbox) -> tuple[Any, Any]:
    return sandbox.catalogue.service("telegram"), sandbox.catalogue.country("US")


@pytest.mark.parametrize(
    ("way_in", "label"),
    [
        (way_in, label)
        for label in OPERATIONS
        for way_in in WAYS_IN
        if way_in != "key" or "/api/v2" in label
    ],
)
def test_nothing_that_is_sent_makes_it_fail(way_in: str, label: str) -> None:
    sandbox: Sandbox = APPS[way_in].state.sandbox
    checks = NO_500 if way_in == "live" else AS_WRITTEN
    headers = {"Authorization": f"Bearer {KEY}"} if way_in == "key" else None

    @seed(402)
    @settings(
        max_examples=WITH_A_KEY if way_in == "key" else EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=_cases(way_in, label), kind=st.sampled_from([*HELD, None]))
    def holds(case: Any, kind: str | None) -> None:
        _made_real(case, sandbox, kind)
        case.call_and_validate(checks=checks, headers=headers)

    holds()


def test_a_failure_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sandbox, "books", lambda sandbox, payer: 1 // 0)
    with pytest.raises(FailureGroup, match="Server error"):
        test_nothing_that_is_sent_makes_it_fail("free", "GET /_sandbox/books/{address}")


def test_every_endpoint_is_among_them() -> None:
    assert {name.replace(" ", " /api/v2") for name in ENDPOINTS} < set(OPERATIONS)


@pytest.mark.parametrize(
    ("header", "owner"),
    [
        ({}, FREE_WALLET),
        ({"X-Sandbox-Wallet": "nobody"}, FREE_WALLET),
        (
            {"X-Sandbox-Wallet": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"},
            "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
        ),
    ],
    ids=["without", "wrong", "right"],
)
def test_where_all_is_free_a_header_says_who_calls(header: dict[str, str], owner: str) -> None:
    with reached(free=True) as (sandbox, buyer):
        order = {"service": "telegram", "country": "US"}
        bought = buyer.http.post("/orders", json=order, headers=header)
        assert bought.status_code == 200
        assert bought.json()["price"] == "0.00"
        order_id = bought.json()["order_id"]
        assert sandbox.orders_of(owner) == [(order_id, "waiting")]
        ended = buyer.http.post(f"/orders/{order_id}/cancel", headers=header)
        assert ended.json()["refund_amount"] == "0.00"
        assert (sandbox.books(owner), sandbox.payments()) == ((0, 0), [])
