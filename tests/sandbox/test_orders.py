"""The life of an order, and waiting for its SMS."""

from __future__ import annotations

import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.sandbox.conftest import MakeBuyer
from tests.sandbox.paying import Buyer, Json, asked_atomic, encode
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox

PROBLEM = "https://virtualsms.io/errors/"


def _act(buyer: Buyer, order_id: str, action: str) -> Any:
    return buyer.pay("POST", f"/orders/{order_id}/{action}")


def _status(buyer: Buyer, order_id: str) -> str:
    return str(buyer.get(f"/orders/{order_id}")["status"])


def _unix(moment: str) -> float:
    return datetime.fromisoformat(moment).astimezone(UTC).timestamp()


def test_an_order_has_every_documented_field(sandbox: RunningSandbox, buyer: Buyer) -> None:
    bought = buyer.order()
    assert re.fullmatch(r"\+1555\d{7}", bought["phone_number"])
    order = buyer.get(f"/orders/{bought['order_id']}")
    assert order["status"] == "waiting"
    assert (order["service"], order["country"]) == ("telegram", "US")
    assert order["phone_number"] == bought["phone_number"]
    assert _unix(order["expires_at"]) - _unix(order["created_at"]) == pytest.approx(1200, abs=0.01)
    assert order["cancel_available_at"] == order["swap_available_at"] == order["created_at"]
    assert order["rules"] == {"cancel_cooldown_seconds": 0, "swap_cooldown_seconds": 0}
    assert (order["sms_received"], order["messages"]) == (False, [])
    assert (order["rental_hours"], order["rental_until"]) == (None, None)
    assert order["previous_number"] is None


def test_an_order_costs_what_pricing_said(sandbox: RunningSandbox, buyer: Buyer) -> None:
    (offer,) = [row for row in buyer.get("/countries/us/pricing") if row["service"] == "whatsapp"]
    bought = buyer.order(service="whatsapp", country="us")
    assert bought["price"] == offer["price"]
    last = sandbox.payments()[-1]
    assert last["order_id"] == bought["order_id"]
    whole, _, fraction = offer["price"].partition(".")
    assert last["amount_atomic"] == str(int(whole + fraction.ljust(6, "0")))


def test_an_order_belongs_to_the_wallet_that_paid(
    sandbox: RunningSandbox, buyer: Buyer, make_buyer: MakeBuyer
) -> None:
    order_id = buyer.order()["order_id"]
    other = make_buyer(sandbox)
    requests = [("GET", ""), ("GET", "/sms"), ("POST", "/cancel"), ("POST", "/swap")]
    for method, action in requests:
        response = other.pay(method, f"/orders/{order_id}{action}")
        assert response.status_code == 404
        assert response.json()["type"] == PROBLEM + "order-not-found"
    assert other.get("/orders")["data"] == []
    # Only that last list was paid for.
    paid = [paid for paid in sandbox.payments() if paid["payer"] == other.address]
    assert [record["path"] for record in paid] == ["/api/v2/orders"]


def test_a_received_order_can_be_confirmed_and_then_nothing_more(
    sandbox: RunningSandbox, buyer: Buyer
) -> None:
    order_id = buyer.order()["order_id"]
    assert _act(buyer, order_id, "confirm").status_code == 400
    sandbox.deliver_sms(order_id, "G-123456 is your code")
    for action in ("cancel", "swap"):
        refused = _act(buyer, order_id, action)
        assert refused.status_code == 400
        assert refused.json()["detail"] == f"Cannot {action} order with status: received"
    assert _act(buyer, order_id, "confirm").json()["status"] == "confirmed"
    for action in ("cancel", "swap", "confirm"):
        refused = _act(buyer, order_id, action)
        assert refused.status_code == 409
        assert refused.json()["type"] == PROBLEM + "order-already-confirmed"
    assert buyer.get(f"/orders/{order_id}/sms")["code"] == "123456"


def test_cancelling_gives_all_the_money_back_once(sandbox: RunningSandbox, buyer: Buyer) -> None:
    before = sandbox.balance(buyer.address)
    order = buyer.order()
    answer = _act(buyer, order["order_id"], "cancel")
    assert answer.json() == {
        "success": True,
        "order_id": order["order_id"],
        "status": "cancelled",
        "refund_amount": order["price"],
    }
    assert sandbox.balance(buyer.address) == before - 1000  # the cancel call itself
    refused = _act(buyer, order["order_id"], "cancel")
    assert refused.status_code == 400
    assert refused.json()["detail"] == "Cannot cancel order with status: cancelled"
    assert sandbox.balance(buyer.address) == before - 1000
    bought = next(
        paid
        for paid in sandbox.payments()
        if paid["order_id"] == order["order_id"] and paid["path"].endswith("/orders")
    )
    assert bought["refunded_atomic"] == bought["amount_atomic"]


def test_a_cancelled_order_says_so_to_a_poll_at_once(sandbox: RunningSandbox, buyer: Buyer) -> None:
    order_id = buyer.order()["order_id"]
    _act(buyer, order_id, "cancel")
    answer = buyer.get(f"/orders/{order_id}/sms?timeout=180")
    assert answer == {"status": "cancelled", "code": None, "full_text": None, "messages": []}


def test_a_swap_brings_a_new_number_and_a_new_window(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    order = own_buyer.order()
    own_sandbox.advance(600)
    swapped = _act(own_buyer, order["order_id"], "swap").json()
    assert swapped["status"] == "waiting"
    assert swapped["previous_number"] == order["phone_number"]
    assert swapped["phone_number"] != order["phone_number"]
    assert swapped["order_id"] == order["order_id"]
    assert _unix(swapped["expires_at"]) - _unix(order["expires_at"]) >= 600


def test_a_swap_without_a_replacement_is_a_404(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    order_id = own_buyer.order()["order_id"]
    own_sandbox.set_stock("telegram", "US", 0)
    refused = _act(own_buyer, order_id, "swap")
    assert (refused.status_code, refused.json()["detail"]) == (404, "No replacement available")


def test_an_order_without_an_sms_expires(own_sandbox: RunningSandbox, own_buyer: Buyer) -> None:
    order_id = own_buyer.order()["order_id"]
    before = own_sandbox.balance(own_buyer.address)
    own_sandbox.advance(1200)
    for method, action in (("POST", "cancel"), ("POST", "swap"), ("GET", "sms")):
        refused = own_buyer.pay(method, f"/orders/{order_id}/{action}")
        assert refused.status_code == 410
        assert refused.json()["type"] == PROBLEM + "order-expired"
    assert own_sandbox.balance(own_buyer.address) == before
    assert _status(own_buyer, order_id) == "expired"


def test_a_received_order_confirms_itself_at_the_end_of_its_window(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    order_id = own_buyer.order()["order_id"]
    own_sandbox.deliver_sms(order_id, "4711")
    own_sandbox.advance(1200)
    assert _status(own_buyer, order_id) == "confirmed"
    assert own_buyer.get(f"/orders/{order_id}/sms")["code"] == "4711"


def test_a_cooldown_delays_cancel_and_swap(make_buyer: MakeBuyer) -> None:
    with running_sandbox(SandboxConfig(cooldown=120)) as running:
        buyer = make_buyer(running)
        order_id = buyer.order()["order_id"]
        running.advance(2)
        refused = _act(buyer, order_id, "cancel")
        assert refused.status_code == 425
        assert re.fullmatch(
            r"Cannot cancel within 120 seconds of purchase. Please wait 11[78] seconds.",
            refused.json()["detail"],
        )
        assert int(refused.headers["Retry-After"]) in {117, 118}
        held = _act(buyer, order_id, "swap")
        assert held.status_code == 400
        assert "hold period" in held.json()["error"]
        assert held.json()["seconds_remaining"] in {117, 118}
        order = buyer.get(f"/orders/{order_id}")
        left = _unix(order["cancel_available_at"]) - _unix(order["created_at"])
        assert left == pytest.approx(120, abs=0.01)
        running.advance(120)
        assert _act(buyer, order_id, "swap").status_code == 200
        assert _act(buyer, order_id, "swap").status_code == 400  # the new number has its own
        assert _act(buyer, order_id, "cancel").status_code == 200


# --- rentals


def test_a_rental_can_be_extended_and_released(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    rental = own_buyer.order(rental_hours=24)
    assert _unix(rental["rental_until"]) - _unix(rental["created_at"]) == pytest.approx(
        86400, abs=0.01
    )
    path = f"/orders/{rental['order_id']}/extend"
    assert asked_atomic(own_buyer.ask("POST", path, json={"hours": 4})) == 20_000
    extended = own_buyer.post(path, json={"hours": 4})
    assert _unix(extended["expires_at"]) - _unix(rental["expires_at"]) == pytest.approx(14400)
    own_sandbox.advance(86400 + 3600)
    assert _status(own_buyer, rental["order_id"]) == "waiting"
    released = _act(own_buyer, rental["order_id"], "release").json()
    assert (released["status"], released["refund_amount"]) == ("completed", "0.00")
    assert _act(own_buyer, rental["order_id"], "release").status_code == 400


def test_cancelling_an_extended_rental_refunds_both_payments(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    before = own_sandbox.balance(own_buyer.address)
    order_id = own_buyer.order(rental_hours=4)["order_id"]
    own_buyer.post(f"/orders/{order_id}/extend", json={"hours": 10})
    _act(own_buyer, order_id, "cancel")
    assert own_sandbox.balance(own_buyer.address) == before - 1000


def test_a_rental_hands_out_each_message_once(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    order_id = own_buyer.order(service="any", rental_hours=4)["order_id"]
    for code in ("111111", "222222"):
        own_sandbox.deliver_sms(order_id, f"code {code}")
        assert own_buyer.get(f"/orders/{order_id}/sms")["code"] == code
        assert own_buyer.get(f"/orders/{order_id}/sms")["status"] == "waiting"
    assert len(own_buyer.get(f"/orders/{order_id}")["messages"]) == 2


@pytest.mark.parametrize(("action", "body"), [("extend", {"hours": 4}), ("release", None)])
def test_only_a_rental_is_extended_or_released(
    buyer: Buyer, action: str, body: Json | None
) -> None:
    order_id = buyer.order()["order_id"]
    refused = buyer.pay("POST", f"/orders/{order_id}/{action}", json=body)
    assert refused.status_code == 400


@pytest.mark.parametrize("body", [{}, {"hours": 0}, {"hours": "4"}, {"hours": 721}, None])
def test_an_extension_that_cannot_be_priced_is_refused_unasked(
    buyer: Buyer, body: Json | None
) -> None:
    assert buyer.http.post("/orders/ord_0/extend", json=body).status_code == 400


# --- waiting for the SMS


def test_a_poll_without_a_timeout_answers_at_once(sandbox: RunningSandbox, buyer: Buyer) -> None:
    order_id = buyer.order()["order_id"]
    waiting: Json = {"status": "waiting", "code": None, "full_text": None, "messages": []}
    assert buyer.get(f"/orders/{order_id}/sms") == waiting
    sandbox.deliver_sms(order_id, "Your code: 123-456", sender="Telegram")
    sandbox.deliver_sms(order_id, "Your code: 987-654", sender="Telegram")
    answer = buyer.get(f"/orders/{order_id}/sms")
    assert (answer["status"], answer["code"]) == ("received", "987654")
    assert answer["full_text"] == "Your code: 987-654"
    assert [sms["content"][-7:] for sms in answer["messages"]] == ["123-456", "987-654"]
    assert set(answer["messages"][0]) == {"sender", "content", "received_at", "phone_number"}


def test_a_long_poll_wakes_when_the_sms_arrives(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    order_id = own_buyer.order()["order_id"]
    with ThreadPoolExecutor(1) as threads:
        poll = threads.submit(own_buyer.get, f"/orders/{order_id}/sms?timeout=180")
        own_sandbox.wait_for_pollers(1)
        assert len(own_sandbox.payments()) == 1  # the poll settles last
        own_sandbox.deliver_sms(order_id, "PIN 5521")
        assert poll.result()["code"] == "5521"
    assert len(own_sandbox.payments()) == 2


def test_a_long_poll_ends_when_its_time_is_up(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    order_id = own_buyer.order()["order_id"]
    with ThreadPoolExecutor(1) as threads:
        poll = threads.submit(own_buyer.get, f"/orders/{order_id}/sms?timeout=180")
        own_sandbox.wait_for_pollers(1)
        own_sandbox.advance(180)
        assert poll.result()["status"] == "waiting"


def test_a_long_poll_ends_unpaid_when_the_order_expires(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    order_id = own_buyer.order()["order_id"]
    own_sandbox.advance(1100)
    with ThreadPoolExecutor(1) as threads:
        poll = threads.submit(own_buyer.pay, "GET", f"/orders/{order_id}/sms?timeout=180")
        own_sandbox.wait_for_pollers(1)
        own_sandbox.advance(100)
        assert poll.result().status_code == 410
    assert len(own_sandbox.payments()) == 1


def test_a_caller_who_hangs_up_is_not_charged(
    own_sandbox: RunningSandbox, own_buyer: Buyer
) -> None:
    order_id = own_buyer.order()["order_id"]
    path = f"/orders/{order_id}/sms?timeout=180"
    header = encode(own_buyer.wallet.document(own_buyer.ask("GET", path)))
    address = (own_buyer.http.base_url.host, own_buyer.http.base_url.port)
    with socket.create_connection(address) as caller:
        request = f"GET /api/v2{path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\n"
        caller.sendall(f"{request}{own_buyer.wallet.header_name}: {header}\r\n\r\n".encode())
        own_sandbox.wait_for_pollers(1)
    own_sandbox.wait_for_pollers(0)
    own_sandbox.deliver_sms(order_id, "123456")
    assert len(own_sandbox.payments()) == 1
    # The payment was not used up: it buys the same poll again.
    assert own_buyer.send("GET", path, header).json()["code"] == "123456"


def test_an_sms_can_come_by_itself(make_buyer: MakeBuyer) -> None:
    with running_sandbox(SandboxConfig(sms_after=30, seed=7)) as running:
        buyer = make_buyer(running)
        order_id = buyer.order()["order_id"]
        assert buyer.get(f"/orders/{order_id}/sms")["status"] == "waiting"
        running.advance(20)
        _act(buyer, order_id, "swap")  # begins the wait anew
        running.advance(20)
        assert buyer.get(f"/orders/{order_id}/sms")["status"] == "waiting"
        with ThreadPoolExecutor(1) as threads:
            poll = threads.submit(buyer.get, f"/orders/{order_id}/sms?timeout=180")
            running.wait_for_pollers(1)
            running.advance(10)
            answer = poll.result()
        assert re.fullmatch(r"\d{6}", answer["code"])
        assert answer["code"] in answer["full_text"]


def test_nothing_is_delivered_to_an_order_that_is_over(
    sandbox: RunningSandbox, buyer: Buyer
) -> None:
    order_id = buyer.order()["order_id"]
    _act(buyer, order_id, "cancel")
    url = f"{sandbox.origin}/_sandbox/orders/{order_id}/sms"
    refused = buyer.http.post(url, json={"text": "too late"})
    assert refused.status_code == 400
    assert json.loads(refused.text)["type"] == PROBLEM + "validation"
