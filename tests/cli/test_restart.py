"""A job that was killed, and what comes after: the same intent, or `x402sms recover`."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tests.cli.conftest import ADDRESS, KEY, MakeCli, bought_at, newest_order
from x402sms.sandbox import Fault, SandboxConfig, running_sandbox

BUY = ("code", "telegram", "--max-price", "0.30", "--intent", "signup-7")
HELD = Fault("slow", route="POST /orders", paid=True)  # settled, and the answer is not sent


@pytest.mark.parametrize("country", [(), ("--country", "GB")], ids=["any-country", "one-country"])
def test_killed_while_it_waits_it_goes_on_with_its_number(
    country: tuple[str, ...], make_cli: MakeCli
) -> None:
    with running_sandbox(SandboxConfig(funded_key=KEY)) as sandbox:
        cli = make_cli(sandbox.url)
        first = cli.start(*BUY, *country)
        sandbox.wait_for_pollers(1)
        first.kill()
        _, told = first.communicate()
        order = newest_order(sandbox)
        assert order["phone_number"] in told

        again = cli.start(*BUY, *country, "--json")
        sandbox.wait_for_pollers(1)
        sandbox.deliver_sms(order["order_id"], "Your code is 730114")
        out, err = again.communicate(timeout=30)
        found = json.loads(out)
        assert (found["code"], found["phone_number"]) == ("730114", order["phone_number"])
        assert [number["resumed"] for number in found["numbers"]] == [True]
        assert f"order      {order['order_id']}, {order['country']}, " in err
        assert "bought by an earlier run" in err
        assert sandbox.orders_of(ADDRESS) == [(order["order_id"], "confirmed")]
        bought = [call for call in sandbox.payments() if call["path"].endswith("/orders")]
        assert len(bought) == 1
        # What it cost includes the number: the purchase is among the payments.
        assert found["payments"][0]["nonce"] == bought[0]["nonce"]
        assert Decimal(found["cost"]) > Decimal(found["price"])


def test_killed_between_paying_and_the_answer_it_has_the_order_it_paid_for(
    make_cli: MakeCli,
) -> None:
    config = SandboxConfig(funded_key=KEY, faults=[HELD], slow_seconds=60)
    with running_sandbox(config) as sandbox:
        cli = make_cli(sandbox.url)
        first = cli.start(*BUY)
        order_id = bought_at(sandbox)
        first.kill()
        _, told = first.communicate()
        assert "number" not in told
        sandbox.set_faults({})

        again = cli.start(*BUY, "--json")
        sandbox.wait_for_pollers(1)
        sandbox.deliver_sms(order_id, "Your code is 730114")
        out, _ = again.communicate(timeout=30)
        found = json.loads(out)
        assert (found["code"], found["order_id"]) == ("730114", order_id)
        assert sandbox.orders_of(ADDRESS) == [(order_id, "confirmed")]
        assert found["payments"][1]["delivered"] == order_id
        # Of the first run it is the number that counts, not the look at the prices before it.
        assert Decimal(found["paid"]) * 10**6 == sandbox.books(ADDRESS)[0] - 1000


def test_recover_finds_what_killed_jobs_paid_for_and_gives_it_back(make_cli: MakeCli) -> None:
    config = SandboxConfig(funded_key=KEY, faults=[HELD], slow_seconds=60)
    with running_sandbox(config) as sandbox:
        cli = make_cli(sandbox.url)
        bought: list[str] = []
        for intent, country in (("anywhere", ()), ("there", ("--country", "uk"))):
            command = ("code", "telegram", "--max-price", "0.30", "--intent", intent)
            job = cli.start(*command, *country)
            bought.append(bought_at(sandbox, number=len(bought) + 1))
            job.kill()
            job.communicate()
        sandbox.set_faults({})

        ended = cli("recover", "--yes", "--json")
        found = {
            purchase["payment"]["intent"]: purchase["order_id"]
            for purchase in ended.json["purchases"]
        }
        assert found == {"anywhere": bought[0], "there": bought[1]}
        assert {order["done"] for order in ended.json["orders"]} == {"cancelled"}
        assert sandbox.orders_of(ADDRESS) == [(order_id, "cancelled") for order_id in bought]
        # Known to be delivered, they are not proven to be settled: there is no RPC.
        assert (ended.status, len(ended.json["unchecked"])) == (5, 2)


@pytest.mark.parametrize(
    ("text", "done", "status"),
    [(None, "cancelled", "cancelled"), ("Your code is 730114", "confirmed", "confirmed")],
    ids=["silent", "received"],
)
def test_recover_ends_the_order_of_a_job_that_was_killed_while_it_waited(
    text: str | None, done: str, status: str, make_cli: MakeCli
) -> None:
    with running_sandbox(SandboxConfig(funded_key=KEY)) as sandbox:
        cli = make_cli(sandbox.url)
        job = cli.start(*BUY)
        sandbox.wait_for_pollers(1)
        job.kill()
        job.communicate()
        order_id = newest_order(sandbox)["order_id"]
        if text is not None:
            sandbox.deliver_sms(order_id, text)
        ended = cli("recover", "--yes", "--json")
        [order] = ended.json["orders"]
        assert (order["done"], order["code"]) == (done, None if text is None else "730114")
        assert sandbox.orders_of(ADDRESS) == [(order_id, status)]
