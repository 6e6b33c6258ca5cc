"""One payment, one request, one settlement: replays, races, and work that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fastapi import APIRouter, Response

from tests.sandbox.conftest import NO_TLS, MakeBuyer
from tests.sandbox.paying import Buyer, Json, asked_atomic, challenge_of, encode, settlement_of
from x402sms.sandbox import RunningSandbox
from x402sms.sandbox.paid import PaidRoute
from x402sms.sandbox.payments import Payment, Refused

ORDER = {"service": "telegram", "country": "US"}
USED = "invalid_exact_evm_nonce_already_used"


def _paid_by(sandbox: RunningSandbox, buyer: Buyer) -> list[Json]:
    return [paid for paid in sandbox.payments() if paid["payer"] == buyer.address]


def _signed_order(buyer: Buyer) -> str:
    return encode(buyer.wallet.document(buyer.ask("POST", "/orders", json=ORDER)))


def test_a_replay_gets_the_first_answer_and_costs_nothing(
    sandbox: RunningSandbox, buyer: Buyer
) -> None:
    header = _signed_order(buyer)
    first = buyer.send("POST", "/orders", header, json=ORDER)
    balance = sandbox.balance(buyer.address)
    again = buyer.send("POST", "/orders", header, json=ORDER)
    assert first.status_code == again.status_code == 200
    assert again.content == first.content
    assert settlement_of(again, buyer.dialect) == settlement_of(first, buyer.dialect)
    assert sandbox.balance(buyer.address) == balance
    assert len(_paid_by(sandbox, buyer)) == 1


def test_a_replay_is_answered_even_when_nothing_could_be_sold_any_more(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    own_sandbox.set_stock("telegram", "US", 1)
    header = _signed_order(own_buyer)
    first = own_buyer.send("POST", "/orders", header, json=ORDER)
    own_sandbox.advance(3600, chain=True)  # past the window of the authorization, too
    assert own_buyer.http.post("/orders", json=ORDER).status_code == 503
    again = own_buyer.send("POST", "/orders", header, json=ORDER)
    assert (again.status_code, again.content) == (200, first.content)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/orders", {**ORDER, "country": "us"}),
        ("GET", "/services", None),
        ("POST", "/orders?again=1", ORDER),
    ],
)
def test_a_settled_payment_buys_nothing_else(
    sandbox: RunningSandbox, buyer: Buyer, method: str, path: str, body: object
) -> None:
    payload = buyer.wallet.payload(buyer.ask("POST", "/orders", json=ORDER))
    paid = buyer.wallet.document(buyer.ask("POST", "/orders", json=ORDER), payload=payload)
    assert buyer.send("POST", "/orders", encode(paid), json=ORDER).status_code == 200
    # The offer echoed is the right one, so that only the nonce stands in the way, if anything.
    challenge = buyer.ask(method, path, json=body)
    other = encode(buyer.wallet.document(challenge, nonce=payload["authorization"]["nonce"]))
    response = buyer.send(method, path, other, json=body)
    assert challenge_of(response, buyer.dialect)["error"] == USED
    assert len(_paid_by(sandbox, buyer)) == 1


async def _at_once(sandbox: RunningSandbox, requests: list[httpx.Request]) -> list[httpx.Response]:
    async with httpx.AsyncClient(timeout=20, trust_env=False, verify=NO_TLS) as client:
        return list(await asyncio.gather(*(client.send(request) for request in requests)))


def _order_request(sandbox: RunningSandbox, buyer: Buyer, header: str) -> httpx.Request:
    headers = {buyer.wallet.header_name: header}
    return httpx.Request("POST", sandbox.url + "/orders", json=ORDER, headers=headers)


def test_replays_that_arrive_together_are_one_purchase(
    sandbox: RunningSandbox, buyer: Buyer
) -> None:
    header = _signed_order(buyer)
    requests = [_order_request(sandbox, buyer, header) for _ in range(8)]
    answers = asyncio.run(_at_once(sandbox, requests))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(_paid_by(sandbox, buyer)) == 1
    assert buyer.get("/orders")["total"] == 1


def test_a_replay_that_arrives_during_a_long_poll_waits_for_it(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    order_id = own_buyer.order()["order_id"]
    path = f"/orders/{order_id}/sms?timeout=180"
    header = encode(own_buyer.wallet.document(own_buyer.ask("GET", path)))
    with ThreadPoolExecutor(2) as threads:
        polls = [threads.submit(own_buyer.send, "GET", path, header) for _ in range(2)]
        own_sandbox.wait_for_pollers(1)
        own_sandbox.deliver_sms(order_id, "Your code is 424242")
        first, second = (poll.result() for poll in polls)
    assert first.json()["code"] == "424242"
    assert second.content == first.content
    assert len(own_sandbox.payments()) == 2  # the order and one poll


def test_of_different_payments_with_one_nonce_exactly_one_settles(
    sandbox: RunningSandbox, buyer: Buyer
) -> None:
    challenge = buyer.ask("POST", "/orders", json=ORDER)
    nonce = "0x" + "ab" * 32
    documents = [
        buyer.wallet.document(challenge, nonce=nonce, validAfter=str(moment)) for moment in range(6)
    ]
    requests = [_order_request(sandbox, buyer, encode(document)) for document in documents]
    answers = asyncio.run(_at_once(sandbox, requests))
    assert sorted(answer.status_code for answer in answers) == [200, 402, 402, 402, 402, 402]
    for answer in answers:
        if answer.status_code == 402:
            assert settlement_of(answer, buyer.dialect)["errorReason"] == USED
    assert len(_paid_by(sandbox, buyer)) == 1


def test_payments_beyond_the_balance_that_arrive_together_do_not_overdraw(
    sandbox: RunningSandbox, make_buyer: MakeBuyer
) -> None:
    buyer = make_buyer(sandbox, funds="0")
    challenge = buyer.ask("POST", "/orders", json=ORDER)
    price = asked_atomic(challenge)
    sandbox.fund(buyer.address, f"0.{price * 2 + price // 2:06d}")
    headers = [encode(buyer.wallet.document(challenge)) for _ in range(5)]
    requests = [_order_request(sandbox, buyer, header) for header in headers]
    answers = asyncio.run(_at_once(sandbox, requests))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 402, 402, 402]
    assert sandbox.balance(buyer.address) == price // 2


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/services/nonesuch/cheapest", 404),
        ("GET", "/countries/XX/pricing", 404),
        ("GET", "/orders/ord_0", 404),
        ("POST", "/orders/ord_0/cancel", 404),
        ("GET", "/orders?per_page=101", 400),
        ("GET", "/orders/ord_0/sms?timeout=181", 400),
        ("GET", "/orders/ord_0/sms?timeout=soon", 400),
    ],
)
def test_a_request_that_fails_is_not_charged_and_its_payment_stays_good(
    sandbox: RunningSandbox, buyer: Buyer, method: str, path: str, status: int
) -> None:
    header = encode(buyer.wallet.document(buyer.ask(method, path)))
    for _ in range(2):
        response = buyer.send(method, path, header)
        assert response.status_code == status
        assert response.headers["content-type"] == "application/problem+json"
        assert not {"payment-response", "x-payment-response"} & set(response.headers)
    assert _paid_by(sandbox, buyer) == []


def test_an_order_that_sells_out_after_the_challenge_is_not_charged(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    header = _signed_order(own_buyer)
    own_sandbox.set_stock("telegram", "US", 0)
    response = own_buyer.send("POST", "/orders", header, json=ORDER)
    assert response.status_code == 503
    assert response.json()["type"] == "https://virtualsms.io/errors/no-stock"
    assert own_sandbox.payments() == []
    own_sandbox.set_stock("telegram", "US", 1)
    assert own_buyer.send("POST", "/orders", header, json=ORDER).status_code == 200


def test_an_answer_that_says_no_is_not_charged_either(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    router = APIRouter(route_class=PaidRoute)

    @router.get("/broken")
    async def broken() -> Response:
        return Response("out of order", 500)

    own_sandbox.app.include_router(router, prefix="/api/v2")
    response = own_buyer.pay("GET", "/broken")
    assert (response.status_code, response.text) == (500, "out of order")
    assert own_sandbox.payments() == []


def _fail_to_settle(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, error: Callable[[], Exception]
) -> None:
    async def settle(payment: Payment) -> str:
        raise error()

    monkeypatch.setattr(sandbox.state.settlement, "settle", settle)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (lambda: Refused("unexpected_settle_error"), 402),
        (lambda: RuntimeError("the facilitator is gone"), 500),
    ],
)
def test_an_order_whose_settlement_fails_never_was(
    own_sandbox: RunningSandbox,
    own_buyer: Buyer,
    monkeypatch: pytest.MonkeyPatch,
    error: Callable[[], Exception],
    status: int,
) -> None:
    own_sandbox.set_stock("telegram", "US", 1)
    header = _signed_order(own_buyer)
    with monkeypatch.context() as patched:
        _fail_to_settle(own_sandbox, patched, error)
        response = own_buyer.send("POST", "/orders", header, json=ORDER)
    assert response.status_code == status
    assert "Traceback" not in response.text
    assert own_sandbox.payments() == []
    assert own_buyer.get("/orders")["total"] == 0
    # Its number is back in stock, and the payment still buys it.
    assert own_buyer.send("POST", "/orders", header, json=ORDER).status_code == 200


@pytest.mark.parametrize("action", ["swap", "cancel", "confirm", "extend", "release"])
def test_an_action_whose_settlement_fails_is_taken_back(
    own_sandbox: RunningSandbox,
    own_buyer: Buyer,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
) -> None:
    order_id = own_buyer.order(rental_hours=4)["order_id"]
    if action == "confirm":
        own_sandbox.deliver_sms(order_id, "123456")
    before = own_buyer.get(f"/orders/{order_id}")
    body = {"hours": 4} if action == "extend" else None
    path = f"/orders/{order_id}/{action}"
    header = encode(own_buyer.wallet.document(own_buyer.ask("POST", path, json=body)))
    with monkeypatch.context() as patched:
        _fail_to_settle(own_sandbox, patched, lambda: Refused("unexpected_settle_error"))
        assert own_buyer.send("POST", path, header, json=body).status_code == 402
    assert own_buyer.get(f"/orders/{order_id}") == before
    assert own_buyer.send("POST", path, header, json=body).status_code == 200


def test_an_authorization_that_runs_out_during_the_work_does_not_settle(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    order_id = own_buyer.order()["order_id"]
    path = f"/orders/{order_id}/sms?timeout=180"
    header = encode(own_buyer.wallet.document(own_buyer.ask("GET", path)))
    with ThreadPoolExecutor(1) as threads:
        poll = threads.submit(own_buyer.send, "GET", path, header)
        own_sandbox.wait_for_pollers(1)
        own_sandbox.advance(400, chain=True)
        response = poll.result()
    reason = settlement_of(response, own_buyer.dialect)["errorReason"]
    assert reason == "invalid_exact_evm_payload_authorization_valid_before"
    assert len(own_sandbox.payments()) == 1
