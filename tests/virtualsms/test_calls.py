from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.virtualsms.strategies import json_values
from x402sms.errors import UnreadableResponse
from x402sms.virtualsms import calls
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.models import OrderStatus, Page

# call, method, path, params, body
REFERENCE: list[tuple[Call[Any], str, str, dict[str, str], dict[str, Any] | None]] = [
    (calls.list_services(), "GET", "/services", {}, None),
    (calls.list_countries(), "GET", "/countries", {}, None),
    (calls.find_cheapest("telegram"), "GET", "/services/telegram/cheapest", {}, None),
    (calls.country_pricing(" uk "), "GET", "/countries/GB/pricing", {}, None),
    (calls.service_availability("wa"), "GET", "/services/wa/availability", {}, None),
    (calls.get_profile(), "GET", "/me", {}, None),
    (calls.get_balance(), "GET", "/me/balance", {}, None),
    (calls.get_stats(), "GET", "/me/stats", {}, None),
    (
        calls.list_transactions(2),
        "GET",
        "/me/transactions",
        {"page": "2", "per_page": "50"},
        None,
    ),
    (
        calls.create_order("telegram", "us"),
        "POST",
        "/orders",
        {},
        {"service": "telegram", "country": "US"},
    ),
    (
        calls.create_order("any", "GB", 24),
        "POST",
        "/orders",
        {},
        {"service": "any", "country": "GB", "rental_hours": 24},
    ),
    (calls.list_orders(), "GET", "/orders", {"page": "1", "per_page": "50"}, None),
    (
        calls.list_orders(3, status=OrderStatus.WAITING, per_page=10),
        "GET",
        "/orders",
        {"page": "3", "per_page": "10", "status": "waiting"},
        None,
    ),
    (calls.get_order("ord_1"), "GET", "/orders/ord_1", {}, None),
    (calls.wait_for_sms("ord_1", 30), "GET", "/orders/ord_1/sms", {"timeout": "30"}, None),
    (calls.swap_order("ord_1"), "POST", "/orders/ord_1/swap", {}, None),
    (calls.cancel_order("ord_1"), "POST", "/orders/ord_1/cancel", {}, None),
    (calls.confirm_order("ord_1"), "POST", "/orders/ord_1/confirm", {}, None),
    (calls.extend_rental("ord_1", 24), "POST", "/orders/ord_1/extend", {}, {"hours": 24}),
    (calls.release_rental("ord_1"), "POST", "/orders/ord_1/release", {}, None),
]
ALL_CALLS = [row[0] for row in REFERENCE]
ids = [f"{row[1]} {row[2]}" for row in REFERENCE]


@pytest.mark.parametrize(("call", "method", "path", "params", "body"), REFERENCE, ids=ids)
def test_every_endpoint_is_called_as_the_reference_says(
    call: Call[Any], method: str, path: str, params: dict[str, str], body: dict[str, Any] | None
) -> None:
    assert (call.method, call.path) == (method, path)
    assert dict(call.params) == params
    assert call.json == body


def test_only_a_purchase_and_an_extension_buy() -> None:
    assert {call.path for call in ALL_CALLS if call.buys} == {"/orders", "/orders/ord_1/extend"}
    assert all(call.method == "POST" for call in ALL_CALLS if call.buys)


def test_only_waiting_for_an_sms_is_a_long_poll() -> None:
    assert calls.wait_for_sms("ord_1").long_poll_seconds == 180
    assert calls.wait_for_sms("ord_1", 0).long_poll_seconds == 0
    assert [call.path for call in ALL_CALLS if call.long_poll_seconds] == ["/orders/ord_1/sms"]


# What goes into a path


@pytest.mark.parametrize(
    ("order_id", "path"),
    [
        ("a b", "/orders/a%20b"),
        (" ord_1\n", "/orders/ord_1"),
        ("a:b@c;d=e&f+g", "/orders/a%3Ab%40c%3Bd%3De%26f%2Bg"),
        ("ключ", "/orders/%D0%BA%D0%BB%D1%8E%D1%87"),
        ("v1.2", "/orders/v1.2"),
    ],
)
def test_an_id_is_percent_encoded(order_id: str, path: str) -> None:
    assert calls.get_order(order_id).path == path


HOSTILE_IDS: list[Any] = [
    "",
    "   ",
    ".",
    "..",
    "a/../b",
    "a..b",
    "a/b",
    "a\\b",
    "a?b",
    "a#b",
    "%2e%2e",
    "a\nb",
    "a\x00b",
    "\ud800",
    "\u202eabc",
    "x" * 201,
    None,
    17,
]


@pytest.mark.parametrize("hostile", HOSTILE_IDS, ids=ascii)
def test_an_id_that_could_change_the_path_is_refused_before_anything_is_sent(hostile: Any) -> None:
    for make in (
        calls.get_order,
        calls.wait_for_sms,
        calls.swap_order,
        calls.cancel_order,
        calls.confirm_order,
        calls.release_rental,
        calls.find_cheapest,
        calls.service_availability,
        calls.country_pricing,
    ):
        with pytest.raises(ValueError, match=r"order id|service|country"):
            make(hostile)
    with pytest.raises(ValueError, match="order id"):
        calls.extend_rental(hostile, 1)
    with pytest.raises(ValueError, match="service"):
        calls.create_order(hostile, "GB")


@settings(deadline=None)
@given(st.text())
def test_any_id_is_refused_or_stays_one_part_of_the_path(order_id: str) -> None:
    try:
        path = calls.get_order(order_id).path
    except ValueError:
        return
    assert path.isascii()
    assert path.count("/") == 2
    assert not set(path) & set("?#\\ ")
    assert ".." not in path


@pytest.mark.parametrize("country", ["Germany", "826", "+44", "", "G", "GBR", "Ğ1", "ßß"])
def test_a_country_that_is_no_two_letter_code_is_never_sent(country: str) -> None:
    with pytest.raises(ValueError, match="country"):
        calls.create_order("telegram", country)


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "24"])
def test_hours_and_pages_are_whole_numbers_from_one(number: Any) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        calls.create_order("any", "GB", number)
    with pytest.raises(ValueError, match="at least 1"):
        calls.extend_rental("ord_1", number)
    with pytest.raises(ValueError, match="at least 1"):
        calls.list_orders(number)
    with pytest.raises(ValueError, match="at least 1"):
        calls.list_transactions(per_page=number)


@pytest.mark.parametrize("timeout", [-1, 181, True, 1.5, "30", None])
def test_a_long_poll_is_0_to_180_whole_seconds(timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout"):
        calls.wait_for_sms("ord_1", timeout)


# Discovery and account


@pytest.mark.parametrize("wrap", [None, "data", "services", "items"])
def test_services_come_bare_or_wrapped(wrap: str | None) -> None:
    rows = [{"id": "telegram", "name": "Telegram", "category": "messenger"}]
    services = calls.list_services().parse(rows if wrap is None else {wrap: rows})
    assert [(s.id, s.name, s.category) for s in services] == [("telegram", "Telegram", "messenger")]


def test_countries_are_read() -> None:
    (country,) = calls.list_countries().parse([{"iso2": "gb", "name": "UK", "in_stock": False}])
    assert (country.iso2, country.in_stock) == ("GB", False)


def test_an_offer_carries_what_was_asked_for() -> None:
    row = {"price": Decimal("0.18"), "stock": 4}
    cheapest = calls.find_cheapest("telegram").parse({"country": "us", **row})
    assert (cheapest.service, cheapest.country, cheapest.price) == (
        "telegram",
        "US",
        Decimal("0.18"),
    )
    (priced,) = calls.country_pricing("gb").parse([{"service": "wa", **row}])
    assert (priced.service, priced.country) == ("wa", "GB")
    (available,) = calls.service_availability("wa").parse([{"country": "de", **row}])
    assert (available.service, available.country, available.stock) == ("wa", "DE", 4)


def test_an_offers_own_service_is_kept() -> None:
    offer = calls.find_cheapest("whatsapp").parse(
        {"service_id": "wa", "country": "US", "price": "0.18", "stock": True}
    )
    assert offer.service == "wa"


def test_the_account_is_read() -> None:
    assert calls.get_profile().parse({"email": "a@b.c", "balance": 4}).balance == 4
    assert calls.get_balance().parse({"balance": "4.2", "currency": "USD"}).currency == "USD"
    assert calls.get_stats().parse({"lifetime_orders": 1, "lifetime_spend": 1}).lifetime_orders == 1


# Orders


def test_a_purchase_gives_an_order_with_what_was_asked_for() -> None:
    order = calls.create_order("telegram", "uk", 24).parse(
        {
            "order_id": 17,
            "phone_number": "447700900123",
            "expires_at": "2026-11-01T10:00:00Z",
            "price": Decimal("0.18"),
        }
    )
    assert (order.order_id, order.phone_number) == ("17", "+447700900123")
    assert (order.service, order.country) == ("telegram", "GB")
    assert order.status is OrderStatus.CREATED
    assert order.model_extra == {}


def test_a_purchase_without_an_order_id_is_unreadable_and_keeps_the_answer() -> None:
    body = {"phone_number": "+447700900123", "reference": "abc"}
    with pytest.raises(UnreadableResponse, match="no readable Order: order_id") as caught:
        calls.create_order("telegram", "gb").parse(body)
    assert caught.value.problem is not None
    assert caught.value.problem["reference"] == "abc"


def test_a_purchase_under_the_other_names_keeps_them() -> None:
    order = calls.create_order("whatsapp", "gb").parse(
        {"id": 1, "service_id": "wa", "country_id": "GB", "status": "waiting"}
    )
    assert (order.order_id, order.service, order.status) == ("1", "wa", "waiting")


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (calls.swap_order(" ord_1 "), "waiting"),
        (calls.confirm_order("ord_1"), "confirmed"),
        (calls.extend_rental("ord_1", 4), "waiting"),
        (calls.release_rental("ord_1"), "completed"),
    ],
)
def test_a_change_that_answers_little_is_still_an_order(call: Call[Any], status: str) -> None:
    order = call.parse({"success": True})
    assert (order.order_id, order.status) == ("ord_1", status)
    assert call.parse({"id": "ord_2", "status": "received"}).order_id == "ord_2"


def test_a_swap_says_what_the_number_was() -> None:
    order = calls.swap_order("ord_1").parse(
        {"phone_number": "12025550124", "previous_number": "12025550123"}
    )
    assert (order.phone_number, order.previous_number) == ("+12025550124", "+12025550123")


def test_an_order_as_it_stands_needs_a_status() -> None:
    with pytest.raises(UnreadableResponse, match="status"):
        calls.get_order("ord_1").parse({"order_id": "ord_1"})


def test_a_success_that_says_it_is_none_is_not_taken_for_one() -> None:
    with pytest.raises(UnreadableResponse, match="success: false"):
        calls.confirm_order("ord_1").parse({"success": False})


@pytest.mark.parametrize(
    ("body", "success", "status"),
    [
        ({"success": True, "status": "cancelled", "refund_amount": "0.18"}, True, "cancelled"),
        ({"success": True}, True, "cancelled"),
        ({"status": "cancelled"}, True, "cancelled"),
        ({"status": "received"}, False, "received"),
        ({"success": False, "status": "received"}, False, "received"),
    ],
)
def test_a_cancellation_is_read(body: dict[str, Any], success: bool, status: str) -> None:
    cancellation = calls.cancel_order("ord_1").parse(body)
    assert (cancellation.success, cancellation.status) == (success, status)


@pytest.mark.parametrize("body", [{}, [], None, {"success": False}])
def test_a_cancellation_that_says_nothing_is_unreadable(body: object) -> None:
    with pytest.raises(UnreadableResponse):
        calls.cancel_order("ord_1").parse(body)


def test_a_refund_is_exact() -> None:
    body = {"success": True, "status": "cancelled", "refund_amount": Decimal("0.18")}
    assert calls.cancel_order("ord_1").parse(body).refund_amount == Decimal("0.18")


# What does not fit


@pytest.mark.parametrize(
    ("call", "body", "field"),
    [
        (calls.list_services(), [{"id": "a", "name": "A"}, {"id": "b"}], r"\[1\]\.name"),
        (calls.list_services(), {"data": [{"name": "A"}]}, r"data\[0\]\.id"),
        (calls.list_services(), {"rows": []}, "no list of rows"),
        (calls.list_services(), "services", "no list of rows"),
        (calls.find_cheapest("wa"), {"country": "US", "stock": 1}, "price"),
        (calls.find_cheapest("wa"), {"price": "cheap"}, "price"),
        (calls.get_balance(), [1], "the whole body"),
        (
            calls.get_order("a"),
            {"status": "waiting", "messages": [{"content": "x"}, {"sender": "y"}]},
            r"messages\[1\]\.content",
        ),
    ],
)
def test_an_unreadable_answer_names_the_field(call: Call[Any], body: object, field: str) -> None:
    with pytest.raises(UnreadableResponse, match=field):
        call.parse(body)


@pytest.mark.parametrize("call", ALL_CALLS, ids=ids)
@settings(deadline=None, max_examples=60)
@given(body=json_values)
def test_any_json_is_read_or_is_unreadable(call: Call[Any], body: object) -> None:
    try:
        call.parse(body)
    except UnreadableResponse as error:
        message = str(error)
    else:
        return
    assert message.isprintable()
    assert len(message) < 600


# Pages

ROW = {"order_id": "ord_1", "status": "waiting"}


@pytest.mark.parametrize("key", ["data", "items", "results", "orders", "transactions"])
def test_the_rows_of_a_page_are_found_under_any_usual_name(key: str) -> None:
    page = calls.list_orders().parse({key: [ROW]})
    assert [order.order_id for order in page.items] == ["ord_1"]


def test_a_bare_list_is_the_only_page() -> None:
    assert calls.list_orders().parse([ROW] * 50) == Page(
        items=calls.list_orders().parse([ROW] * 50).items, page=1, per_page=50
    )


@pytest.mark.parametrize(
    ("asked", "answer", "following"),
    [
        (1, {"page": 1, "per_page": 1, "total": 2}, 2),
        (2, {"page": 2, "per_page": 1, "total": 2}, None),
        (1, {"total": 2}, 2),
        (2, {"total": 2}, None),
        (1, {}, None),
        (1, {"next_page": 2}, 2),
        (1, {"next_page": "2"}, 2),
        (1, {"next_page": None, "total": 100}, None),
        (1, {"next_page": False}, None),
        (1, {"has_more": True}, 2),
        (4, {"has_more": True}, 5),
        (1, {"has_more": False, "total": 100}, None),
        (1, {"data": [], "has_more": True}, None),
        (1, {"data": [], "total": 100}, None),
    ],
)
def test_the_next_page_is_known(asked: int, answer: dict[str, Any], following: int | None) -> None:
    page = calls.list_orders(asked).parse({"data": [ROW], **answer})
    assert page.next_page == following


def test_a_page_says_how_large_it_is_and_how_many_rows_there_are() -> None:
    page = calls.list_transactions(per_page=100).parse(
        {"data": [{"amount": "1"}], "page": 1, "per_page": 20, "total": 45}
    )
    assert (page.per_page, page.total, page.next_page) == (20, 45, 2)


@pytest.mark.parametrize(
    ("answer", "field"),
    [
        ({"page": 1}, "page: 2 was asked for"),
        ({"next_page": 2}, "next_page"),
        ({"next_page": 1}, "next_page"),
        ({"next_page": "cursor_abc"}, "next_page"),
        ({"next_page": True}, "next_page"),
        ({"next_page": -3}, "next_page"),
        ({"has_more": "yes"}, "has_more"),
        ({"total": "many"}, "total"),
        ({"per_page": Decimal("1.5")}, "per_page"),
        ({"total": "9" * 30}, "total"),
    ],
)
def test_paging_that_would_run_in_circles_or_lose_rows_is_unreadable(
    answer: dict[str, Any], field: str
) -> None:
    with pytest.raises(UnreadableResponse, match=field):
        calls.list_orders(2).parse({"data": [ROW], **answer})
