"""Test your own sign-up, from the number to the code: no phone, no waiting and no money.

    pip install 'x402sms[sandbox]' pytest
    pytest examples/test_signup.py

First comes the program that is tested: here a robot that signs up at your own site, as you run it
against staging with `Client()` and real numbers. Below are its tests, with the fixtures that
x402sms brings: `virtualsms` is the service in this process, `sms` a client of it with a wallet.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

import pytest

from x402sms import AsyncClient, Client, SpendLimits
from x402sms.errors import NoCodeReceived, NoStock, SpendLimitExceeded
from x402sms.pytest_plugin import VirtualSMS

# --- the program

SERVICE = "telegram"  # what your site's texts come under: see `x402sms services`
MAX_PRICE = "0.30"


class Site(Protocol):
    """Your site's sign-up form."""

    def send_code_to(self, number: str) -> None: ...

    def enter(self, code: str) -> None: ...


def sign_up(sms: Client, site: Site) -> str:
    """Sign up with a number rented for it, and return that number."""
    received = sms.receive_code(SERVICE, max_price=MAX_PRICE, on_number=site.send_code_to)
    site.enter(received.code or "")
    return received.phone_number or ""


async def sign_up_async(sms: AsyncClient, site: Site) -> str:
    received = await sms.receive_code(SERVICE, max_price=MAX_PRICE, on_number=site.send_code_to)
    site.enter(received.code or "")
    return received.phone_number or ""


# --- its tests


class FakeSite:
    """Sends its code as an SMS: to every number, or not to the first ones, the `unreachable`."""

    def __init__(self, virtualsms: VirtualSMS, *, unreachable: int = 0) -> None:
        self.virtualsms = virtualsms
        self.unreachable = unreachable
        self.asked: list[str] = []
        self.signed_up = False

    def send_code_to(self, number: str) -> None:
        self.asked.append(number)
        if len(self.asked) > self.unreachable:
            text = "Your code is 482913, valid for 10 minutes (case 20417735)"
            self.virtualsms.deliver(text, order=number)

    def enter(self, code: str) -> None:
        self.signed_up = code == "482913"


def test_signing_up_takes_one_number_and_confirms_it(virtualsms: VirtualSMS, sms: Client) -> None:
    site = FakeSite(virtualsms)
    assert sign_up(sms, site) == site.asked[0]
    assert site.signed_up
    virtualsms.assert_no_open_orders()
    virtualsms.assert_spent(at_most=MAX_PRICE)


def test_a_number_that_our_site_does_not_reach_is_swapped(
    virtualsms: VirtualSMS, sms: Client
) -> None:
    site = FakeSite(virtualsms, unreachable=1)
    assert sign_up(sms, site) == site.asked[1]
    assert len(virtualsms.orders) == 1  # a swap is free: the order is the same


def test_a_slow_sms_is_waited_for(virtualsms: VirtualSMS, sms: Client) -> None:
    """Without a fake: the text is on its way, and arrives after 100 s that nobody waits."""
    virtualsms.sms_arrives("G-482913 is your code", after=100)
    assert sms.receive_code(SERVICE, max_price=MAX_PRICE).code == "482913"


def test_without_a_code_the_number_is_paid_back(virtualsms: VirtualSMS, sms: Client) -> None:
    with pytest.raises(NoCodeReceived, match="refunded"):
        sign_up(sms, FakeSite(virtualsms, unreachable=99))
    virtualsms.assert_no_open_orders()
    assert virtualsms.cost < Decimal("0.05")  # USDC: what the calls around it cost


def test_nothing_is_bought_beyond_our_limits(virtualsms: VirtualSMS) -> None:
    frugal = virtualsms.client(limits=SpendLimits(per_call="0.01"))
    with pytest.raises(SpendLimitExceeded):
        sign_up(frugal, FakeSite(virtualsms))
    assert virtualsms.orders == []
    virtualsms.assert_spent(at_most="0.01")  # to ask for the price


@pytest.mark.virtualsms(faults={"no-stock@POST /orders": 1})
def test_a_service_without_numbers_costs_no_number(virtualsms: VirtualSMS, sms: Client) -> None:
    site = FakeSite(virtualsms)
    with pytest.raises(NoStock):
        sign_up(sms, site)
    assert site.asked == []
    virtualsms.assert_spent(at_most="0.01")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio  # or pytest-asyncio: any plugin that runs coroutines
async def test_signing_up_works_in_async_code_too(
    virtualsms: VirtualSMS, async_sms: AsyncClient
) -> None:
    site = FakeSite(virtualsms)
    await sign_up_async(async_sms, site)
    assert site.signed_up
