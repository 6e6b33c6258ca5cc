"""What may be signed: the ceiling, what is left of `max_total`, and what is said of a refusal."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from tests.buyer import Colour
from tests.job.accounts import audited, exact
from tests.job.scene import (
    BUY,
    CANCEL,
    LIST,
    Moment,
    Scene,
    always,
    once,
    staged,
)
from x402sms.errors import (
    NoCodeReceived,
    PaymentRefused,
    PaymentUnknown,
    SpendLimitExceeded,
)
from x402sms.virtualsms.effects import Chosen, LeftOut

PRICES = {"US": "0.10", "GB": "0.12"}
ASKED = Moment(BUY, "before", paid=False)
PAYS = Moment(BUY, "before")


def _prices_paid(scene: Scene) -> list[Decimal]:
    """For numbers, in USDC."""
    return [row.amount for row in scene.rows if row.method == "POST" and row.delivered]


def _priced(scene: Scene, country: str, price: str) -> Callable[[], None]:
    return lambda: scene.sandbox.set_price("telegram", country, price)


@pytest.mark.parametrize("price", ["0.10", "0.15", "0.19"])
def test_the_first_number_costs_at_most_max_total(price: str, colour: Colour) -> None:
    with staged(colour, only={"US": "0.09"}, sms_after=30) as scene:
        scene.at(ASKED, _priced(scene, "US", price))
        ended = scene.receive(max_total="0.10", max_price="0.30")
        assert scene.paid(BUY) == (price == "0.10")
        if price != "0.10":
            assert isinstance(ended.error, SpendLimitExceeded)
            assert ended.error.limit == "max_total"
            assert scene.sent(BUY) == 0
        exact(scene, ended)


@pytest.mark.parametrize(("price", "bought"), [("0.12", 2), ("0.13", 1), ("0.29", 1)])
def test_a_price_that_moves_does_not_spend_more_than_max_total(
    price: str, bought: int, colour: Colour
) -> None:
    """0.10 USDC may be lost already, so 0.12 of the 0.22 are left."""
    faults = [always("drop-before", CANCEL, paid=True)]
    with staged(colour, only=PRICES, faults=faults) as scene:
        moved = _priced(scene, "GB", price)
        scene.at(PAYS, lambda: scene.at(ASKED, moved))
        ended = scene.receive(max_numbers=2, timeout=900, max_total="0.22")
        assert isinstance(ended.error, NoCodeReceived)
        assert scene.paid(BUY) == bought
        assert sum(_prices_paid(scene)) <= Decimal("0.22")
        if bought == 1:
            assert isinstance(ended.error.__cause__, SpendLimitExceeded)
            assert ended.error.__cause__.limit == "max_total"
        audited(scene)


def test_looking_for_a_lost_order_keeps_to_the_ceiling_too(colour: Colour) -> None:
    """A list of orders for 0.01 USDC, where a number may cost 0.008."""
    faults = [always("drop-after-settle", BUY, paid=True), always("wrong-price", LIST)]
    with staged(colour, only={"US": "0.005"}, faults=faults) as scene:
        ended = scene.receive(max_price="0.008", intent="job-1")
        assert isinstance(ended.error, PaymentUnknown)
        assert "looking for the order in GET /orders failed" in ended.said
        assert (scene.sent(LIST), scene.paid(LIST)) == (0, 0)
        assert not [
            row for row in scene.rows if row.url.endswith("/orders") and row.method == "GET"
        ]
        audited(scene)


def test_a_lost_order_is_looked_for_where_that_is_under_the_ceiling(colour: Colour) -> None:
    faults = [always("drop-after-settle", BUY, paid=True), always("wrong-price", LIST)]
    with staged(colour, only={"US": "0.005"}, faults=faults, sms_after=30) as scene:
        assert scene.receive(max_price="0.01").code is not None
        assert scene.paid(LIST) == 1


def test_orders_create_looks_under_its_own_ceiling(colour: Colour) -> None:
    faults = [always("drop-after-settle", BUY, paid=True), always("wrong-price", LIST)]
    with staged(colour, only={"US": "0.005"}, faults=faults) as scene:
        with pytest.raises(PaymentUnknown):
            scene.wait_for(lambda: scene.client.orders.create("telegram", "US", max_price="0.008"))
        assert scene.sent(LIST) == 0
        order = scene.wait_for(lambda: scene.client.orders.create("telegram", "US"))
        assert order.order_id in scene.order_ids


# --- a price that moves above the ceiling


def test_a_payment_that_was_signed_and_refused_is_not_kept_quiet(colour: Colour) -> None:
    with staged(colour, only={"US": "0.10"}) as scene:
        scene.at(PAYS, _priced(scene, "US", "0.31"))
        ended = scene.receive(intent="job-1")
        # What was signed may be anywhere: that is said, and not that nothing was bought.
        assert isinstance(ended.error, PaymentRefused | PaymentUnknown), repr(ended.error)
        assert not isinstance(ended.error, SpendLimitExceeded)
        assert isinstance(ended.error.__cause__, SpendLimitExceeded)
        assert "nothing bought" not in ended.said
        assert [event.country for event in ended.told(LeftOut)] == ["US"]
        assert (scene.sent(BUY), scene.paid(BUY), scene.orders) == (1, 0, [])
        assert ended.cost == scene.books[0] + Decimal("0.10")  # it may settle yet
        audited(scene)


def test_it_is_raised_too_where_the_next_country_has_none(colour: Colour) -> None:
    with staged(colour, only=PRICES) as scene:

        def only_dearer() -> None:
            scene.sandbox.set_price("telegram", "US", "0.31")
            scene.sandbox.set_stock("telegram", "GB", 0)

        scene.at(PAYS, only_dearer)
        ended = scene.receive()
        assert [event.offer.country for event in ended.told(Chosen)] == ["US", "GB"]
        # What was signed may be anywhere: that is said, and not that nothing was bought.
        assert isinstance(ended.error, PaymentRefused | PaymentUnknown), repr(ended.error)
        assert scene.sent(BUY) <= 2  # the same payment, once in each country
        assert (scene.paid(BUY), scene.orders) == (0, [])
        audited(scene)


# prices when asked for -> what is said
DEARER = [
    ({"US": "0.50", "GB": "0.40"}, "0.40", "GB"),
    ({"US": "0.40", "GB": "0.50"}, "0.40", "US"),
    ({"US": "0.31"}, "0.31", "US"),
]


@pytest.mark.parametrize(("moved", "price", "country"), DEARER)
def test_where_nothing_was_signed_the_cheapest_refused_price_is_named_with_its_country(
    moved: dict[str, str], price: str, country: str, colour: Colour
) -> None:
    """A country without a number left, as the last one is in the third row, is not the one."""
    faults = [] if "GB" in moved else [once("no-stock", BUY, paid=False, times=None)]
    with staged(colour, only=PRICES) as scene:

        def move() -> None:
            for where, dearer in moved.items():
                scene.sandbox.set_price("telegram", where, dearer)
            if "GB" not in moved:
                scene.at(Moment(BUY, "after", paid=False), lambda: scene.sandbox.set_faults(faults))

        scene.at(ASKED, move)
        ended = scene.receive()
        assert isinstance(ended.error, SpendLimitExceeded)
        assert (ended.error.limit, ended.error.amount) == ("max_price", Decimal(price))
        assert f"costs {price} USDC ({country})" in ended.said
        assert [event.country for event in ended.told(LeftOut)] == ["US", "GB"]
        assert scene.sent(BUY) == 0
        exact(scene, ended)
