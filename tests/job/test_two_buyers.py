"""Buyers on one ledger, and answers that are lost: each order is somebody's, and one's only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.buyer import Colour
from tests.job.accounts import audited
from tests.job.scene import (
    BUY,
    LIST,
    Change,
    Moment,
    Scene,
    lost,
    problem,
    staged,
    unchanged,
    with_rows,
)
from tests.test_ordering import BOUGHT_AT, PAYMENT
from x402sms.errors import NoStock, PaymentUnknown, ServerError, X402SMSError
from x402sms.ledger import Payment
from x402sms.protocol.types import PaymentState
from x402sms.recovery import match
from x402sms.virtualsms import calls
from x402sms.virtualsms.calls import Call
from x402sms.virtualsms.effects import Chosen
from x402sms.virtualsms.job import purchase_of
from x402sms.virtualsms.models import Order

PRICES = {"US": "0.10", "GB": "0.12"}
LONELY = {"US": "0.10"}


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


def _no_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return []


def _bought(scene: Scene, outcomes: list[Any], **options: Any) -> Any:
    """Enter a job; its order, or what it raised, is added to `outcomes`. To be awaited where the
    colour is."""
    job = scene.job(**{"max_numbers": 1, **options})
    if scene.colour == "sync":
        try:
            outcomes.append(job.__enter__().order)
        except X402SMSError as error:
            outcomes.append(error)
        return None

    async def entered() -> None:
        try:
            outcomes.append((await job.__aenter__()).order)
        except X402SMSError as error:
            outcomes.append(error)

    return entered()


def _race(scene: Scene, mine: str | None, others: str | None) -> tuple[Any, Any]:
    """What a buyer whose every answer is lost gets, while another one's answer is on its way, and
    what the other gets."""
    first: list[Any] = []
    second: list[Any] = []
    losing = scene.beside()
    losing.change(BUY, lost)

    def quicker() -> Any:
        scene.sandbox.advance(2)
        return _bought(losing, first, country=mine, intent="loses its answer")

    scene.at(Moment(BUY, "after"), quicker)
    scene.wait_for(lambda: _bought(scene, second, country=others, intent="is on its way"))
    return first[0], second[0]


def _delivered(scene: Scene) -> dict[str, str]:
    """intent -> order, of the purchases."""
    return {row.intent: row.delivered for row in scene.rows if row.delivered}


def _lost_for_good(scene: Scene, country: str, intent: str) -> str:
    """The id of an order that was paid for by `orders.create`, which does not know."""
    losing = scene.beside()
    losing.change(BUY, lost)
    losing.change(LIST, with_rows(_no_rows))
    with pytest.raises(PaymentUnknown):
        scene.wait_for(lambda: losing.client.orders.create("telegram", country, intent=intent))
    return scene.order_ids[-1]


@pytest.mark.parametrize("where", [None, "US"], ids=["any country", "one country"])
def test_two_equal_purchases_get_an_order_each_whichever_finds_one_first(
    where: str | None, colour: Colour, ledger: str
) -> None:
    with staged(colour, only=PRICES, ledger=ledger) as scene:
        mine, others = _race(scene, where, where)
        assert isinstance(mine, Order), mine
        assert isinstance(others, Order), others
        assert {mine.order_id, others.order_id} == set(scene.order_ids)
        assert mine.phone_number != others.phone_number
        assert _delivered(scene) == {
            "loses its answer": mine.order_id,
            "is on its way": others.order_id,
        }
        assert scene.paid(BUY) == 2
        audited(scene)


def test_an_answer_whose_order_was_claimed_is_not_two_jobs_of_one_number(
    colour: Colour, ledger: str
) -> None:
    """The one that is quicker takes the older order; the other's own is the newer one."""
    with staged(colour, only=LONELY, ledger=ledger) as scene:
        mine, others = _race(scene, None, None)
        assert [mine.order_id, others.order_id] == scene.order_ids


def test_any_country_leaves_alone_what_an_open_purchase_of_that_country_may_have_bought(
    colour: Colour, ledger: str
) -> None:
    with staged(colour, only=LONELY, ledger=ledger) as scene:
        mine, others = _race(scene, None, "US")
        assert isinstance(mine, PaymentUnknown), mine
        assert isinstance(others, Order), others
        assert others.order_id == scene.order_ids[0]
        assert _delivered(scene) == {"is on its way": scene.order_ids[0]}

        again = scene.receive(intent="loses its answer", timeout=60)
        assert scene.paid(BUY) == 2
        assert again.events
        assert _delivered(scene)["loses its answer"] == scene.order_ids[1]
        audited(scene)


def test_any_country_does_not_take_the_only_order_that_there_is_from_its_buyer(
    colour: Colour, ledger: str
) -> None:
    with staged(colour, only=LONELY, ledger=ledger) as scene:
        theirs = _lost_for_good(scene, "US", "theirs")
        losing = scene.beside()
        outcomes: list[Any] = []

        def not_bought(request: httpx.Request | None = None) -> None:
            raise httpx.ReadError("the connection was lost")

        for _ in range(50):
            losing.at(Moment(BUY, "before"), not_bought)
        scene.wait_for(lambda: _bought(losing, outcomes, intent="mine"))
        assert isinstance(outcomes[0], PaymentUnknown)
        assert scene.order_ids == [theirs]
        assert _delivered(scene) == {}

        found = scene.wait_for(
            lambda: scene.client.orders.create("telegram", "US", intent="theirs")
        )
        assert found.order_id == theirs
        assert _delivered(scene) == {"theirs": theirs}


def test_any_country_takes_it_once_the_other_purchase_is_delivered(
    colour: Colour, ledger: str
) -> None:
    """It looks again where it left one alone."""
    with staged(colour, only=LONELY, ledger=ledger) as scene:
        theirs = _lost_for_good(scene, "US", "theirs")
        losing = scene.beside()
        losing.change(BUY, lost)
        outcomes: list[Any] = []

        def delivered() -> None:
            row = scene.row_of("theirs")
            assert scene.client.ledger.note_delivered(
                network=row.network, payer=row.payer, nonce=row.nonce, what=theirs
            )

        losing.at(Moment(LIST, "after"), lambda: losing.at(Moment(LIST, "after"), delivered))
        scene.wait_for(lambda: _bought(losing, outcomes, intent="mine"))
        [mine] = outcomes
        assert isinstance(mine, Order), mine
        assert [theirs, mine.order_id] == scene.order_ids
        assert _delivered(scene) == {"theirs": theirs, "mine": mine.order_id}


def test_another_country_of_the_same_price_is_nobody_elses(colour: Colour, ledger: str) -> None:
    with staged(colour, only={"US": "0.10", "GB": "0.10"}, ledger=ledger) as scene:
        mine, others = _race(scene, "US", "GB")
        assert (mine.country, others.country) == ("US", "GB")


# --- no word of the money, after an answer was lost


# What follows the lost answer, and what the list of orders says; each the last for good.
UNSURE: dict[str, tuple[list[Change], list[Change]]] = {
    "no stock, and no list": ([lost, problem(503, "no-stock")], [lost]),
    "no stock, and an empty list": ([lost, problem(503, "no-stock")], [with_rows(_no_rows)]),
    "no such country, and no list": ([lost, problem(404, "country-not-found")], [lost]),
    "an error of its own, and no list": ([lost, problem(500, "internal")], [lost]),
}


@pytest.mark.parametrize(("answers", "lists"), UNSURE.values(), ids=UNSURE)
@pytest.mark.parametrize("country", [None, "US"], ids=["any country", "one country"])
def test_what_may_be_paid_for_is_never_left_out(
    country: str | None,
    answers: list[Change],
    lists: list[Change],
    colour: Colour,
    ledger: str,
) -> None:
    with staged(colour, only=PRICES, ledger=ledger) as scene:
        scene.change(BUY, *answers)
        scene.change(LIST, *lists)
        ended = scene.receive(intent="job-1", country=country)
        assert isinstance(ended.error, PaymentUnknown | ServerError), repr(ended.error)
        assert not isinstance(ended.error, NoStock)
        assert "nothing bought" not in ended.said
        assert "nothing was bought" not in ended.said
        assert "'job-1'" in ended.said
        assert [event.offer.country for event in ended.told(Chosen)] == ["US"]
        assert (scene.paid(BUY), len(scene.orders)) == (1, 1)
        assert scene.row_of("job-1").delivered is None
        assert ended.cost >= Decimal("0.10")

        scene.changes.clear()
        again = scene.receive(intent="job-1", country=country)
        assert (scene.paid(BUY), scene.orders) == (1, ["cancelled"]), repr(again.error)
        audited(scene)


@pytest.mark.parametrize("kind", ["no-stock", "country-not-found"])
def test_a_refusal_that_knows_nothing_of_the_money_becomes_payment_unknown(
    kind: str, colour: Colour, ledger: str
) -> None:
    with staged(colour, only=PRICES, ledger=ledger) as scene:
        scene.change(BUY, lost, problem(503 if kind == "no-stock" else 404, kind))
        scene.change(LIST, lost)
        ended = scene.receive(intent="job-1")
        assert isinstance(ended.error, PaymentUnknown), repr(ended.error)
        assert ended.error.__cause__ is not None
        assert ended.error.intent == "job-1"


def test_a_purchase_that_may_be_paid_is_tried_again_until_the_order_is_listed(
    colour: Colour, ledger: str
) -> None:
    with staged(colour, only=PRICES, ledger=ledger, sms_after=300) as scene:
        scene.change(BUY, lost, problem(503, "no-stock"))
        scene.change(LIST, with_rows(_no_rows), unchanged)
        ended = scene.receive(intent="job-1", timeout=600)
        assert ended.code is not None
        assert (ended.code.order.country, ended.code.order_id) == ("US", scene.order_ids[0])
        assert [event.offer.country for event in ended.told(Chosen)] == ["US"]
        assert (scene.paid(BUY), len(scene.orders)) == (1, 1)
        assert ended.cost == ended.code.cost
        audited(scene)


# --- which order a payment bought


def _fingerprint(call: Call[Order], purchase: str | None = None) -> str:
    return purchase or f"{dict(call.json or {})}"


CREATED = _fingerprint(calls.create_order("telegram", "GB"))
ANY_COUNTRY = purchase_of("telegram", None, None)


def _payment(number: int = 1, most: str | None = None, **known: Any) -> Payment:
    amount = Decimal(known.pop("amount", "0.15"))
    reserved = amount if most is None else Decimal(most)
    return replace(
        PAYMENT,
        **{
            "nonce": f"n{number}",
            "fingerprint": CREATED,
            "amount_atomic": int(amount * 10**6),
            "reserved_atomic": int(reserved * 10**6),
            "presentations": 1 if most is None else 2,
            "state": PaymentState.UNKNOWN,
            **known,
        },
    )


def _row(number: int = 1, price: str | None = "0.15", after: float = 1, **known: Any) -> Order:
    return Order.model_validate(
        {
            "order_id": f"o{number}",
            "status": "waiting",
            "service": "telegram",
            "country": "GB",
            "price": price,
            "created_at": datetime.fromtimestamp(BOUGHT_AT + after, UTC),
            **known,
        }
    )


def _matched(
    payments: list[Payment], orders: list[Order], taken: set[str] | None = None, **more: Any
) -> dict[str, str]:
    found = match(payments, orders, taken or set(), _fingerprint, **more)
    return {nonce: order.order_id for nonce, order in found.items()}


PRICED: dict[str, tuple[list[Payment], list[Order], dict[str, str]]] = {
    "the price that was signed": ([_payment()], [_row()], {"n1": "o1"}),
    "a row without a price": ([_payment()], [_row(price=None)], {"n1": "o1"}),
    "the price of the first of two authorizations": (
        [_payment(amount="0.15", most="0.20")],
        [_row(price="0.20")],
        {"n1": "o1"},
    ),
    "a price between them": (
        [_payment(amount="0.15", most="0.20")],
        [_row(price="0.18")],
        {"n1": "o1"},
    ),
    "more than was ever signed": ([_payment(amount="0.15", most="0.20")], [_row(price="0.21")], {}),
    "more than was signed": ([_payment()], [_row(price="0.16")], {}),
    "its very price, not the older one": (
        [_payment(amount="0.15", most="0.20")],
        [_row(1, "0.18"), _row(2, "0.15", 5)],
        {"n1": "o2"},
    ),
    "each its own price": (
        [_payment(1, amount="0.15", most="0.20"), _payment(2, amount="0.20")],
        [_row(1, "0.20"), _row(2, "0.15", 5)],
        {"n1": "o2", "n2": "o1"},
    ),
}


@pytest.mark.parametrize(("payments", "orders", "found"), PRICED.values(), ids=PRICED)
def test_the_price_says_which_order_a_payment_bought(
    payments: list[Payment], orders: list[Order], found: dict[str, str]
) -> None:
    assert _matched(payments, orders) == found


def test_what_another_open_payment_has_the_price_of_is_left_to_it() -> None:
    mine, other = _payment(1, amount="0.15", most="0.20"), _payment(2, amount="0.20")
    assert _matched([mine], [_row(price="0.20")], others=[other]) == {}
    assert _matched([mine], [_row(price="0.18")], others=[other]) == {"n1": "o1"}


def test_an_order_of_any_country_is_left_to_the_open_payment_for_that_country() -> None:
    mine, other = _payment(1, fingerprint=ANY_COUNTRY), _payment(2)
    assert _matched([mine], [_row()]) == {"n1": "o1"}
    assert _matched([mine], [_row()], others=[other]) == {}
    assert _matched([mine], [_row(), _row(2, country="US")], others=[other]) == {"n1": "o2"}
    assert _matched([mine, other], [_row()]) == {"n2": "o1"}


PLAIN = [{"rental_hours": None}, {}]
RENTED: list[dict[str, Any]] = [
    {"rental_hours": 24},
    {"rental_until": datetime.fromtimestamp(BOUGHT_AT + 86_401, UTC)},
]


@pytest.mark.parametrize("purchase", [CREATED, ANY_COUNTRY], ids=["a request's", "a job's"])
@pytest.mark.parametrize(
    ("row", "fits"),
    [(row, True) for row in PLAIN] + [(row, False) for row in RENTED],
    ids=["no hours", "nothing said", "its hours", "its end"],
)
def test_a_plain_purchase_did_not_buy_a_rental(
    row: dict[str, Any], fits: bool, purchase: str
) -> None:
    assert _matched([_payment(fingerprint=purchase)], [_row(**row)]) == (
        {"n1": "o1"} if fits else {}
    )


@pytest.mark.parametrize("row", [*PLAIN, *RENTED], ids=["none", "nothing said", "hours", "end"])
def test_a_rental_may_be_a_row_that_does_not_say_so(row: dict[str, Any]) -> None:
    rented = _payment(fingerprint=purchase_of("telegram", None, 24))
    assert _matched([rented], [_row(**row)]) == {"n1": "o1"}


ODD: dict[str, Callable[[], dict[str, Any]]] = {
    "a service of 190 characters": lambda: {"service": "x" * 190},
    "a service that no path can hold": lambda: {"service": "../../me"},
    "a rental that ended before it began": lambda: {"rental_until": "2020-01-01T00:00:00Z"},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_row_does_not_blind_the_search(
    odd: Callable[[], dict[str, Any]], colour: Colour, ledger: str
) -> None:
    def with_odd(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**rows[0], "order_id": "odd", **odd()}, *rows]

    with staged(colour, only=PRICES, ledger=ledger) as scene:
        scene.change(BUY, lost)
        scene.change(LIST, with_rows(with_odd))
        ended = scene.receive(intent="job-1", timeout=60)
        assert scene.orders == ["cancelled"], ended.said
        assert _delivered(scene) == {"job-1": scene.order_ids[0]}
        audited(scene)
