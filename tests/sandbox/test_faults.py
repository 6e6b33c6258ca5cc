"""Faults: what each does to a call and to the books, over a socket and in process."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import pytest

from tests.sandbox.conftest import DIALECTS
from tests.sandbox.paying import Buyer, Json, asked_atomic, encode
from tests.sandbox.reaching import WAYS, AnySandbox, Way, reached
from x402sms.errors import ConfigError
from x402sms.sandbox import FAULTS, Fault
from x402sms.sandbox.__main__ import main
from x402sms.sandbox.app import create_app
from x402sms.sandbox.config import DialectName
from x402sms.sandbox.endpoints import ENDPOINTS, endpoint_of

ORDER = {"service": "telegram", "country": "US"}
PROBLEM = "https://virtualsms.io/errors/"
DISCONNECTED = "Server disconnected without sending a response"
CUT = "peer closed connection without sending complete message body"


@dataclass(frozen=True)
class Meets:
    """What a request to buy meets: a status and a part of the body, or a failure."""

    status: int = 0
    says: str = ""
    fails: str = ""
    settles: bool = False


def _buy(buyer: Buyer, *, paid: bool) -> httpx.Response:
    if not paid:
        return buyer.http.post("/orders", json=ORDER)
    challenge = buyer.ask("POST", "/orders", json=ORDER)
    header = encode(buyer.wallet.document(challenge))
    return buyer.send("POST", "/orders", header, json=ORDER)


PAID = {
    "drop-before": Meets(fails=DISCONNECTED),
    "rate-limit": Meets(429, PROBLEM + "rate-limited"),
    "error-500": Meets(500, PROBLEM + "internal"),
    "html-502-before": Meets(502, "<h1>502 Bad Gateway</h1>"),
    "stock-ends": Meets(503, PROBLEM + "no-stock"),
    "duplicate": Meets(200, "order_id", settles=True),
    "slow": Meets(200, "order_id", settles=True),
    "drop-after-settle": Meets(fails=DISCONNECTED, settles=True),
    "html-502": Meets(502, "<h1>502 Bad Gateway</h1>", settles=True),
    "plain-error": Meets(500, "upstream failure", settles=True),
    "truncate": Meets(fails=CUT, settles=True),
}
UNPAID = {
    "drop-before": Meets(fails=DISCONNECTED),
    "rate-limit": Meets(429, PROBLEM + "rate-limited"),
    "error-500": Meets(500, PROBLEM + "internal"),
    "html-502-before": Meets(502, "<h1>502 Bad Gateway</h1>"),
    "no-stock": Meets(503, PROBLEM + "no-stock"),
    "duplicate": Meets(402),
    "slow": Meets(402),
    "drop-after-settle": Meets(fails=DISCONNECTED),
    "html-502": Meets(502, "<h1>502 Bad Gateway</h1>"),
    "plain-error": Meets(500, "upstream failure"),
}


def _check(sandbox: AnySandbox, buyer: Buyer, fault: Fault, meets: Meets, *, paid: bool) -> None:
    sandbox.set_faults([fault])
    if meets.fails:
        with pytest.raises(httpx.RemoteProtocolError, match=meets.fails):
            _buy(buyer, paid=paid)
    else:
        answer = _buy(buyer, paid=paid)
        assert answer.status_code == meets.status
        assert meets.says in answer.text
    assert sandbox.faults_struck() == {fault.name: 1}
    assert len(sandbox.orders_of(buyer.address)) == len(sandbox.payments()) == meets.settles


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", PAID)
def test_a_paid_purchase_meets(way: Way, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with reached(way, slow_seconds=0) as (sandbox, buyer):
        _check(sandbox, buyer, Fault(name, paid=True), PAID[name], paid=True)
    assert caplog.messages == []  # a fault is no failure of the server's


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", UNPAID)
def test_asking_for_a_price_meets(way: Way, name: str) -> None:
    with reached(way, slow_seconds=0) as (sandbox, buyer):
        _check(sandbox, buyer, Fault(name, paid=False), UNPAID[name], paid=False)


@pytest.mark.parametrize("way", WAYS)
def test_not_a_byte_of_an_answer_that_is_dropped_arrives_and_the_connection_is_gone(
    way: Way,
) -> None:
    with reached(way) as (sandbox, buyer):
        sandbox.set_faults([Fault("drop-after-settle", times=1)])
        with pytest.raises(httpx.RemoteProtocolError, match=DISCONNECTED):
            buyer.http.post("/orders", content=b"x" * 60_000)
        assert buyer.http.get("/services").status_code == 402


def test_the_answer_that_was_lost_is_there_for_who_presents_the_payment_again() -> None:
    with reached() as (sandbox, buyer):
        challenge = buyer.ask("POST", "/orders", json=ORDER)
        header = encode(buyer.wallet.document(challenge))
        sandbox.set_faults([Fault("drop-after-settle", times=1)])
        with pytest.raises(httpx.RemoteProtocolError):
            buyer.send("POST", "/orders", header, json=ORDER)
        ((order_id, _),) = sandbox.orders_of(buyer.address)
        again = buyer.send("POST", "/orders", header, json=ORDER)
        assert again.json()["order_id"] == order_id
        assert len(sandbox.payments()) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_wrong_price_is_ten_times_the_price_and_is_taken_as_it_was_asked(
    dialect: DialectName,
) -> None:
    with reached(dialect=dialect) as (sandbox, buyer):
        right = buyer.ask("POST", "/orders", json=ORDER)
        sandbox.set_faults([Fault("wrong-price", times=1)])
        wrong = buyer.ask("POST", "/orders", json=ORDER)
        assert asked_atomic(wrong) == 10 * asked_atomic(right)
        for challenge in (wrong, right):  # both were asked, both may be paid
            header = encode(buyer.wallet.document(challenge))
            order = buyer.send("POST", "/orders", header, json=ORDER)
            assert order.status_code == 200
            paid = int(sandbox.payments()[-1]["amount_atomic"])
            assert paid == asked_atomic(challenge)
        assert sandbox.books(buyer.address) == (11 * asked_atomic(right), 0)


def test_what_was_paid_too_dearly_is_refunded_as_it_was_paid() -> None:
    with reached() as (sandbox, buyer):
        sandbox.set_faults([Fault("wrong-price", times=1)])
        order = buyer.order()
        paid = int(sandbox.payments()[0]["amount_atomic"])
        ended = buyer.post(f"/orders/{order['order_id']}/cancel")
        assert ended["refund_amount"] == order["price"]
        assert sandbox.books(buyer.address) == (paid + 1000, paid)


def test_stock_that_ends_stays_ended() -> None:
    with reached() as (sandbox, buyer):
        sandbox.set_faults([Fault("stock-ends", times=1)])
        assert _buy(buyer, paid=True).status_code == 503
        assert _buy(buyer, paid=False).status_code == 503
        offer = buyer.get("/services/telegram/availability")[0]
        assert (offer["country"], offer["stock"]) == ("US", 0)


def test_an_sms_that_beats_the_cancel_leaves_the_order_received_and_the_money_spent() -> None:
    with reached() as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        sandbox.set_faults({"sms-beats-cancel": 1})
        refused = buyer.pay("POST", f"/orders/{order_id}/cancel")
        assert (refused.status_code, refused.json()["detail"]) == (
            400,
            "Cannot cancel order with status: received",
        )
        assert sandbox.books(buyer.address)[1] == 0
        assert len(sandbox.payments()) == 1
        assert buyer.get(f"/orders/{order_id}/sms")["code"] is not None


@pytest.mark.parametrize(
    ("name", "action", "status", "kind"),
    [
        ("swap-none", "swap", 404, "no-replacement"),
        ("confirm-fails", "confirm", 500, "internal"),
    ],
)
def test_an_action_that_fails_changes_nothing_and_costs_nothing(
    name: str, action: str, status: int, kind: str
) -> None:
    with reached() as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        if action == "confirm":
            sandbox.deliver_sms(order_id, "code 1234")
        before = buyer.get(f"/orders/{order_id}")
        sandbox.set_faults([Fault(name, times=1)])
        refused = buyer.pay("POST", f"/orders/{order_id}/{action}")
        assert (refused.status_code, refused.json()["type"]) == (status, PROBLEM + kind)
        assert len(sandbox.payments()) == 2
        assert buyer.get(f"/orders/{order_id}") == before
        assert buyer.pay("POST", f"/orders/{order_id}/{action}").status_code == 200


def test_reordered_messages_come_newest_first_and_a_poll_hands_out_the_oldest() -> None:
    with reached(virtual_time=True) as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        for code in ("1111", "2222", "3333"):
            sandbox.deliver_sms(order_id, f"code {code}")
            sandbox.advance(1)
        sandbox.set_faults({"reorder": 1})
        poll = buyer.get(f"/orders/{order_id}/sms")
        order = buyer.get(f"/orders/{order_id}")
        for answer in (poll, order):
            received = [sms["received_at"] for sms in answer["messages"]]
            assert received == sorted(received, reverse=True)
        assert poll["code"] == "1111"
        sandbox.set_faults({})
        assert buyer.get(f"/orders/{order_id}/sms")["code"] == "3333"


def test_an_sms_that_was_there_before_the_cancel_stays_the_only_one() -> None:
    with reached(faults={"sms-beats-cancel": 1}) as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        sandbox.deliver_sms(order_id, "code 1234")
        assert buyer.pay("POST", f"/orders/{order_id}/cancel").status_code == 400
        assert len(buyer.get(f"/orders/{order_id}")["messages"]) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_long_poll_that_is_processed_twice_waits_once_and_is_paid_once(way: Way) -> None:
    with reached(way, faults={"duplicate": 1}) as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        with ThreadPoolExecutor(1) as threads:
            poll = threads.submit(buyer.get, f"/orders/{order_id}/sms?timeout=180")
            sandbox.wait_for_pollers(1)
            sandbox.deliver_sms(order_id, "code 1234")
            assert poll.result()["code"] == "1234"
        assert len(sandbox.payments()) == 2


def test_an_unknown_status_is_none_of_the_services_words() -> None:
    with reached() as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        sandbox.set_faults({"unknown-status": 1})
        assert buyer.get(f"/orders/{order_id}")["status"] == "in_review"
        assert sandbox.orders_of(buyer.address) == [(order_id, "waiting")]


def test_in_virtual_time_a_slow_answer_moves_the_clock_instead() -> None:
    with reached(virtual_time=True, slow_seconds=500, faults={"slow": 1}) as (sandbox, buyer):
        begun = sandbox.now()
        assert buyer.http.get("/services").status_code == 402
        assert sandbox.now() - begun == 500


# --- aiming


AIMED: list[tuple[Fault, list[int]]] = [
    (Fault("error-500"), [500, 500, 500, 500]),
    (Fault("error-500", 0), [402, 402, 402, 402]),
    (Fault("error-500", times=2), [500, 500, 402, 402]),
    (Fault("error-500", times=0), [402, 402, 402, 402]),
    (Fault("error-500", route="GET /me"), [402, 500, 402, 500]),
    (Fault("error-500", route="GET /me", times=1), [402, 500, 402, 402]),
    (Fault("error-500", paid=True), [402, 402, 402, 402]),
    (Fault("error-500", paid=False, times=1), [500, 402, 402, 402]),
]


@pytest.mark.parametrize(("fault", "statuses"), AIMED, ids=str)
def test_a_fault_befalls_what_it_is_aimed_at(fault: Fault, statuses: list[int]) -> None:
    with reached(faults=[fault]) as (_, buyer):
        asked = [buyer.http.get(path).status_code for path in ["/services", "/me"] * 2]
        assert asked == statuses


def test_the_first_of_two_that_could_befall_is_enough() -> None:
    faults = [Fault("error-500", times=1), Fault("error-500", route="GET /me")]
    with reached(faults=faults) as (_, buyer):
        asked = [buyer.http.get(path).status_code for path in ["/me", "/services", "/me"]]
        assert asked == [500, 402, 500]


def test_a_schedule_repeats_and_another_seed_is_another_schedule() -> None:
    def run(**config: Any) -> list[int]:
        with reached(faults={"error-500": 0.5, "rate-limit": 0.2}, **config) as (_, buyer):
            return [buyer.http.get("/services").status_code for _ in range(40)]

    first = run(seed=1)
    assert first == run(seed=1) == run(seed=2, fault_seed=1)
    assert first != run(seed=2)
    assert set(first) == {402, 429, 500}


def test_one_fault_more_does_not_shift_the_others() -> None:
    def run(*more: Fault) -> list[int]:
        with reached(faults=[*more, Fault("error-500", 0.5)]) as (_, buyer):
            return [buyer.http.get("/services").status_code for _ in range(20)]

    assert run() == run(Fault("slow", 0), Fault("error-500", 0.5, route="GET /me"))


def test_the_control_routes_are_never_befallen() -> None:
    with reached(faults=dict.fromkeys(FAULTS, 1.0)) as (sandbox, buyer):
        assert buyer.http.get(f"{sandbox.origin}/_sandbox/clock").status_code == 200
        assert buyer.http.get("/no-such-path").status_code == 404


def test_faults_are_set_seen_and_ended_over_http() -> None:
    with reached() as (sandbox, buyer):
        url = f"{sandbox.origin}/_sandbox/faults"
        wanted = [{"name": "error-500", "route": "GET /me", "times": 1}]
        complete = [{**wanted[0], "probability": 1.0, "paid": None}]
        assert buyer.http.put(url, json=wanted).json() == {"faults": complete, "struck": {}}
        assert buyer.http.get("/me").status_code == 500
        assert buyer.http.get(url).json() == {"faults": complete, "struck": {"error-500": 1}}
        assert buyer.http.delete(url).json() == {"faults": [], "struck": {}}
        assert buyer.http.get("/me").status_code == 402


@pytest.mark.parametrize(
    "wrong", [[{"name": "gremlins"}], [{"name": "slow", "route": "GET /"}], [{}], "slow"], ids=str
)
def test_faults_that_are_none_are_refused_over_http(wrong: object) -> None:
    with reached() as (sandbox, buyer):
        assert buyer.http.put(f"{sandbox.origin}/_sandbox/faults", json=wrong).status_code == 400


def test_without_a_server_that_can_close_it_the_connection_fails() -> None:
    app = create_app()
    app.state.sandbox.schedule.set((Fault("drop-before"),))

    async def run() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            await client.get("/api/v2/services")

    with pytest.raises(ConnectionResetError, match="fault"):
        anyio.run(run)


# --- naming


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("slow=1", Fault("slow", 1)),
        ("drop-before=0.25", Fault("drop-before", 0.25)),
        ("truncate@POST /orders=0.5", Fault("truncate", 0.5, route="POST /orders")),
    ],
)
def test_a_fault_is_written(text: str, fault: Fault) -> None:
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("slow", "is not NAME=P"),
        ("slow=", "is not NAME=P"),
        ("slow=often", "is not NAME=P"),
        ("slow=2", "between 0 and 1"),
        ("slow=nan", "between 0 and 1"),
        ("gremlins=1", "there are drop-before, rate-limit"),
        ("slow@GET /nowhere=1", "no route 'GET /nowhere'"),
    ],
)
def test_what_is_no_fault_is_refused(
    text: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=says):
        Fault.parse(text)
    with pytest.raises(SystemExit) as ended:
        main(["--fault", text])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [{"probability": 1.1}, {"times": -1}, {"route": "/orders"}])
def test_a_fault_that_cannot_be_is_refused(wrong: Json) -> None:
    with pytest.raises(ConfigError):
        Fault("slow", **wrong)


def test_the_program_names_every_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    for name, meaning in FAULTS.items():
        assert f"  {name} " in shown
        assert meaning in shown


def _routes() -> Iterable[str]:
    paths = create_app().openapi()["paths"]
    for path, methods in paths.items():
        if path.startswith("/api/v2"):
            yield from (f"{method.upper()} {path.removeprefix('/api/v2')}" for method in methods)


def test_faults_can_be_aimed_at_every_endpoint_there_is() -> None:
    assert sorted(ENDPOINTS) == sorted(_routes())


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/api/v2/services", "GET /services"),
        ("GET", "/api/v2/orders/ord_1", "GET /orders/{order_id}"),
        ("POST", "/api/v2/orders/ord_1/cancel", "POST /orders/{order_id}/cancel"),
        ("DELETE", "/api/v2/orders/ord_1", None),
        ("GET", "/api/v2/orders/a/b/c", None),
        ("GET", "/_sandbox/orders", None),
    ],
)
def test_a_request_has_the_name_of_its_endpoint(method: str, path: str, name: str | None) -> None:
    assert endpoint_of(method, path, "/api/v2") == name
