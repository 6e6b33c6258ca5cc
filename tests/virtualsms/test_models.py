from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.virtualsms.strategies import prices, texts
from x402sms.virtualsms.models import (
    Balance,
    Cancellation,
    Country,
    Offer,
    Order,
    OrderStatus,
    Page,
    Profile,
    Rules,
    Service,
    Sms,
    SmsResult,
    Stats,
    Transaction,
    Wire,
)

ALL_MODELS: tuple[type[Wire], ...] = (
    Service,
    Country,
    Offer,
    Profile,
    Balance,
    Stats,
    Transaction,
    Sms,
    Rules,
    Order,
    SmsResult,
    Cancellation,
)

FULL_ORDER: dict[str, Any] = {
    "order_id": "ord_1",
    "phone_number": "447700900123",
    "service": "telegram",
    "country": "gb",
    "price": Decimal("0.18"),
    "status": "received",
    "created_at": "2026-11-01T10:00:00Z",
    "expires_at": "2026-11-01T10:20:00+00:00",
    "cancel_available_at": "2026-11-01T10:02:00",
    "swap_available_at": 1793527320,
    "rules": {"cancel_cooldown_seconds": 120, "swap_cooldown_seconds": 120},
    "sms_received": True,
    "messages": [
        {"sender": "Telegram", "content": "code 12345", "received_at": "2026-11-01T10:01:00Z"}
    ],
}


def order(**fields: Any) -> Order:
    return Order.model_validate({"order_id": "ord_1", "status": "waiting", **fields})


def offer(**fields: Any) -> Offer:
    return Offer.model_validate({"price": "0.18", **fields})


def test_a_full_order_is_read() -> None:
    read = Order.model_validate(FULL_ORDER)
    assert read.phone_number == "+447700900123"
    assert read.country == "GB"
    assert read.price == Decimal("0.18")
    assert read.status is OrderStatus.RECEIVED
    assert read.expires_at == datetime(2026, 11, 1, 10, 20, tzinfo=UTC)
    assert read.cancel_available_at == datetime(2026, 11, 1, 10, 2, tzinfo=UTC)
    assert read.swap_available_at == datetime(2026, 11, 1, 10, 2, tzinfo=UTC)
    assert read.rules == Rules(cancel_cooldown_seconds=120, swap_cooldown_seconds=120)
    assert read.messages[0].content == "code 12345"


def test_a_list_row_with_the_other_names_is_the_same_order() -> None:
    row = Order.model_validate(
        {
            "id": 17,
            "service_id": "wa",
            "country_id": "uk",
            "price_charged": "0.20",
            "status": "completed",
        }
    )
    assert (row.order_id, row.service, row.country) == ("17", "wa", "UK")
    assert row.price == Decimal("0.20")


def test_the_documented_name_wins_over_the_other_one() -> None:
    both = order(id=17)
    assert both.order_id == "ord_1"
    assert both.model_extra == {"id": 17}


def test_unknown_fields_survive_and_are_reachable() -> None:
    read = order(carrier="EE", nested={"a": [Decimal("0.10")]})
    assert read.model_extra == {"carrier": "EE", "nested": {"a": [Decimal("0.10")]}}
    assert read.model_dump()["carrier"] == "EE"


@pytest.mark.parametrize("model", ALL_MODELS)
def test_every_model_is_frozen_and_has_a_schema(model: type[Wire]) -> None:
    assert model.model_config["frozen"]
    assert model.model_json_schema(mode="validation")
    assert model.model_json_schema(mode="serialization")


def test_an_order_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        order().price = Decimal("0.01")  # type: ignore[misc]


@pytest.mark.parametrize("mode", ["python", "json"])
def test_an_order_survives_being_dumped_and_read_again(mode: str) -> None:
    read = Order.model_validate(FULL_ORDER)
    assert Order.model_validate(read.model_dump(mode=mode)) == read


# Status


@pytest.mark.parametrize("status", list(OrderStatus))
def test_a_known_status_is_of_the_enum(status: OrderStatus) -> None:
    assert order(status=status.value).status is status
    assert order(status=f" {status.value.upper()} ").status is status


def test_an_unknown_status_survives_as_text() -> None:
    read = order(status="On_Hold")
    assert read.status == "On_Hold"
    assert type(read.status) is str
    assert not read.is_final
    assert not read.has_sms


@pytest.mark.parametrize("status", [None, 3, ["waiting"]])
def test_a_status_that_is_no_text_is_refused(status: object) -> None:
    with pytest.raises(ValidationError):
        order(status=status)


@pytest.mark.parametrize(
    ("status", "has_sms", "is_final"),
    [
        ("created", False, False),
        ("pending", False, False),
        ("waiting", False, False),
        ("swapped", False, False),
        ("received", True, False),
        ("sms_received", True, False),
        ("confirmed", True, True),
        ("completed", True, True),
        ("cancelled", False, True),
        ("expired", False, True),
        ("failed", False, True),
    ],
)
def test_both_vocabularies_of_states_mean_the_same(
    status: str, has_sms: bool, is_final: bool
) -> None:
    assert order(status=status).has_sms is has_sms
    assert order(status=status).is_final is is_final


@pytest.mark.parametrize(
    ("written", "has_sms"),
    [
        (True, True),
        (False, False),
        (None, False),
        (1, True),
        (0, False),
        ("true", True),
        ("false", False),
        ("", False),
    ],
)
def test_a_flag_says_that_an_sms_arrived(written: object, has_sms: bool) -> None:
    assert order(sms_received=written).has_sms is has_sms


def test_a_message_says_that_an_sms_arrived() -> None:
    assert order(messages=[{"content": "hello"}]).has_sms
    assert not order(messages=None).has_sms


# Money


@pytest.mark.parametrize(
    ("written", "price"),
    [
        (Decimal("0.18"), "0.18"),
        ("0.18", "0.18"),
        (1, "1"),
        ("0", "0"),
        (Decimal("1E+1"), "10"),
    ],
)
def test_a_price_is_a_number_or_a_plain_string(written: object, price: str) -> None:
    read = offer(price=written).price
    assert type(read) is Decimal
    assert read == Decimal(price)


@pytest.mark.parametrize(
    "written",
    [
        0.18,
        True,
        None,
        "",
        "free",
        "$0.18",
        "0,18",
        "1e3",
        "NaN",
        "٣",
        "-1",
        -1,
        Decimal("-0.01"),
        Decimal("NaN"),
        Decimal("Infinity"),
        Decimal("1E+41"),
        Decimal("1E-41"),
        Decimal("0." + "1" * 81),
        10**41,
        [1],
        {},
    ],
)
def test_anything_else_is_no_price(written: object) -> None:
    with pytest.raises(ValidationError):
        offer(price=written)


@settings(deadline=None)
@given(prices)
def test_a_price_is_exact_in_every_form(price: Decimal) -> None:
    assert offer(price=price).price == offer(price=f"{price:f}").price == price


def test_a_ledger_row_and_a_balance_may_be_negative() -> None:
    assert Transaction.model_validate({"amount": "-0.18"}).amount == Decimal("-0.18")
    assert Balance(balance=Decimal(-1), currency="USD").balance == -1


def test_a_transaction_may_be_almost_empty() -> None:
    row = Transaction.model_validate({"id": 5, "kind": "deposit"})
    assert row.id == "5"
    assert row.amount is None
    assert row.model_extra == {"kind": "deposit"}


def test_the_account_is_read() -> None:
    profile = Profile.model_validate({"email": None, "balance": Decimal("4.20"), "plan": "free"})
    assert (profile.email, profile.balance, profile.plan) == (None, Decimal("4.20"), "free")
    stats = Stats.model_validate({"lifetime_orders": 3, "lifetime_spend": "0.54"})
    assert (stats.lifetime_orders, stats.lifetime_spend) == (3, Decimal("0.54"))


# Time


@pytest.mark.parametrize(
    "written",
    [
        "2026-11-01T10:00:00Z",
        "2026-11-01t10:00:00z",
        "2026-11-01T12:00:00+02:00",
        "2026-11-01T10:00:00",
        "2026-11-01 10:00:00.000",
        "2026-11-01T10:00:00.000000000Z",
        1793527200,
        "1793527200",
        1793527200000,
        Decimal("1793527200.5"),
        datetime(2026, 11, 1, 10),  # noqa: DTZ001  a naive one is what is meant
        datetime(2026, 11, 1, 12, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_an_instant_is_aware_and_in_utc(written: object) -> None:
    read = order(expires_at=written).expires_at
    assert read == datetime(2026, 11, 1, 10, tzinfo=UTC)
    assert read.tzinfo is UTC


@pytest.mark.parametrize(
    "written",
    [
        "",
        "soon",
        True,
        1.5,
        [],
        10**30,
        -(10**11) * 1000,
        Decimal("1E+60"),
        Decimal("NaN"),
        "0001-01-01T00:00:00+14:00",
        "2026-13-01",
    ],
)
def test_anything_else_is_no_instant(written: object) -> None:
    with pytest.raises(ValidationError, match="expires_at"):
        order(expires_at=written)


# Phone numbers


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("+447700900123", "+447700900123"),
        ("447700900123", "+447700900123"),
        (447700900123, "+447700900123"),
        ("+44 7700 900-123", "+447700900123"),
        ("+1 (202) 555.0123", "+12025550123"),
        (None, None),
        ("07700 900123", "07700 900123"),
        ("hidden", "hidden"),
    ],
)
def test_a_phone_number_is_e164_where_that_is_possible(written: object, number: str | None) -> None:
    assert order(phone_number=written).phone_number == number


def test_a_phone_number_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValidationError):
        order(phone_number=["+447700900123"])


# Stock


@pytest.mark.parametrize(
    ("written", "stock", "in_stock"),
    [
        (12, 12, True),
        (0, 0, False),
        (-1, 0, False),
        (Decimal("3.0"), 3, True),
        ("12", 12, True),
        ("0", 0, False),
        (True, None, True),
        (False, None, False),
        ("in_stock", None, True),
        ("low_stock", None, True),
        ("out_of_stock", None, False),
        ("Out of stock", None, False),
        ("out-of-stock", None, False),
        ("plenty", None, True),
        (None, None, True),
    ],
)
def test_stock_is_a_count_a_yes_or_no_or_a_band(
    written: object, stock: int | None, in_stock: bool
) -> None:
    for read in (offer(stock=written), Country.model_validate(_country(in_stock=written))):
        assert (read.stock, read.in_stock, read.raw_stock) == (stock, in_stock, written)
        again = type(read).model_validate(read.model_dump())
        assert again == read


def _country(**fields: object) -> dict[str, object]:
    return {"iso2": "gb", "name": "United Kingdom", **fields}


def test_a_country_is_in_upper_case() -> None:
    assert Country.model_validate(_country()).iso2 == "GB"


def test_a_plain_no_wins_over_a_count() -> None:
    read = offer(stock=5, in_stock=False)
    assert (read.stock, read.in_stock) == (5, False)
    assert Offer.model_validate(read.model_dump()) == read


@pytest.mark.parametrize("written", [[1], {}, 1.5, Decimal("1.5"), Decimal("1E+99")])
def test_anything_else_is_no_stock(written: object) -> None:
    with pytest.raises(ValidationError, match="stock is a count"):
        offer(stock=written)


def test_a_row_that_is_no_object_is_refused() -> None:
    for model in (Offer, SmsResult):
        with pytest.raises(ValidationError):
            model.model_validate([1])


# SMS


def test_the_answer_to_waiting_is_read() -> None:
    result = SmsResult.model_validate(
        {"status": "received", "code": 123456, "full_text": "G-123456 is your code"}
    )
    assert (result.code, result.text) == ("123456", "G-123456 is your code")
    assert result.has_sms


@pytest.mark.parametrize(
    ("body", "status", "has_sms"),
    [
        ({}, "waiting", False),
        ({"status": None, "messages": []}, "waiting", False),
        ({"code": "1234"}, "received", True),
        ({"messages": [{"content": "hi"}]}, "received", True),
        ({"status": "waiting"}, "waiting", False),
        ({"status": "sms_received"}, "sms_received", True),
        ({"status": "on_hold", "full_text": "hi"}, "on_hold", True),
    ],
)
def test_an_answer_without_a_status_says_it_by_what_it_carries(
    body: dict[str, Any], status: str, has_sms: bool
) -> None:
    result = SmsResult.model_validate(body)
    assert (result.status, result.has_sms) == (status, has_sms)


def test_half_an_emoji_does_not_lose_the_sms() -> None:
    body = json.loads(r'{"content": "code 4711 \ud83d", "sender": "\ud83d"}')
    sms = Sms.model_validate(body)
    assert sms.content == "code 4711 \N{REPLACEMENT CHARACTER}"
    assert sms.sender == "\N{REPLACEMENT CHARACTER}"


def test_a_whole_emoji_written_as_a_pair_is_kept() -> None:
    assert (
        Sms.model_validate(json.loads(r'{"content": "\ud83d\ude00"}')).content
        == "\N{GRINNING FACE}"
    )


@settings(deadline=None)
@given(texts)
def test_any_text_can_be_an_sms_and_be_written_out(content: str) -> None:
    sms = Sms.model_validate({"content": content})
    assert len(sms.content.encode()) >= len(content)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=20), texts | st.integers(), max_size=5))
def test_any_unknown_fields_survive_in_an_order(fields: dict[str, Any]) -> None:
    known = {*Order.model_fields, "id", "service_id", "country_id", "price_charged"}
    extra = {key: value for key, value in fields.items() if key not in known}
    assert order(**extra).model_extra == extra


def test_a_page_holds_rows_and_where_to_go_on() -> None:
    page: Page[int] = Page(items=(1, 2), page=1, next_page=2)
    assert (page.items, page.next_page, page.total) == ((1, 2), 2, None)
