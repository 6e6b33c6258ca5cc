"""Virtual time: nobody waits, and the same calls meet the same moments."""

from __future__ import annotations

import re
import time

import pytest

from tests.sandbox.conftest import DIALECTS
from tests.sandbox.reaching import WAYS, Way, reached
from x402sms.sandbox.clock import Bell, Clock
from x402sms.sandbox.config import DialectName


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_poll_without_an_sms_answers_at_once_and_moves_the_clock_by_its_length(
    way: Way, dialect: DialectName
) -> None:
    with reached(way, dialect=dialect, virtual_time=True) as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        begun = sandbox.now()
        answer = buyer.get(f"/orders/{order_id}/sms?timeout=180")
        assert (answer["status"], sandbox.now() - begun) == ("waiting", 180)


def test_a_poll_moves_the_clock_no_further_than_to_the_sms() -> None:
    with reached(virtual_time=True, sms_after=30) as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        begun = sandbox.now()
        assert buyer.get(f"/orders/{order_id}/sms?timeout=20")["status"] == "waiting"
        answer = buyer.get(f"/orders/{order_id}/sms?timeout=180")
        assert re.fullmatch(r"\d{6}", answer["code"])
        assert sandbox.now() - begun == 30
        assert buyer.get(f"/orders/{order_id}/sms?timeout=180")["code"] == answer["code"]
        assert sandbox.now() - begun == 30


def test_a_poll_moves_the_clock_no_further_than_to_the_end_of_the_order() -> None:
    with reached(virtual_time=True, order_seconds=100) as (sandbox, buyer):
        order_id = buyer.order()["order_id"]
        begun = sandbox.now()
        assert buyer.pay("GET", f"/orders/{order_id}/sms?timeout=180").status_code == 410
        assert sandbox.now() - begun == 100
        assert sandbox.orders_of(buyer.address) == [(order_id, "expired")]


def test_between_polls_the_clock_moves_only_when_it_is_told_to() -> None:
    with reached(virtual_time=True) as (sandbox, buyer):
        begun = sandbox.now()
        assert begun == pytest.approx(time.time(), abs=60)
        buyer.order()
        buyer.get("/services")
        assert sandbox.now() == begun
        sandbox.advance(90)
        assert sandbox.now() == begun + 90


def test_payments_are_still_judged_by_the_machines_own_time() -> None:
    with reached(virtual_time=True) as (sandbox, buyer):
        sandbox.advance(10_000)
        assert buyer.get("/me/balance")["currency"] == "USDC"


def test_in_real_time_the_clock_runs_by_itself() -> None:
    with reached() as (sandbox, _):
        assert sandbox.now() == pytest.approx(time.time(), abs=60)


def test_two_runs_are_the_same_run() -> None:
    def run() -> list[object]:
        with reached(virtual_time=True, sms_after=30, seed=5) as (sandbox, buyer):
            begun = sandbox.now()
            bought = buyer.order()
            swapped = buyer.post(f"/orders/{bought['order_id']}/swap")
            sms = buyer.get(f"/orders/{bought['order_id']}/sms?timeout=180")
            numbers = [bought["phone_number"], swapped["phone_number"]]
            return [bought["order_id"], numbers, sms["code"], sandbox.now() - begun]

    assert run() == run()


def test_no_clock_goes_where_no_moment_can_be_written() -> None:
    clock = Clock(Bell())
    clock.advance(10**10)
    with pytest.raises(ValueError, match="beyond the year"):
        clock.advance(10**12)


def test_a_still_clock_is_never_moved_back() -> None:
    clock = Clock(Bell(), still=True)
    begun = clock.now()
    clock.reach(begun - 5)
    assert clock.now() == begun
