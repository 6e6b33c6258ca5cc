"""The fixtures for other people's suites: used here as they would, and run as they would."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from x402sms import AsyncClient, Client, SpendLimits, Wallet, paying
from x402sms import pytest_plugin as plugin
from x402sms.api_keys import ApiKey, load_key, store_key
from x402sms.clock import SystemClock
from x402sms.errors import ConfigError, NoCodeReceived, PaymentRefused
from x402sms.pytest_plugin import VirtualSMS
from x402sms.sandbox import Fault

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
CODE = "Your code is 482913"
KEY = "0x" + "42" * 32
DEFAULT_REST = "https://virtualsms.io/api/v2"
FIXTURE = type(plugin.sms)
PRICE = Decimal("0.05")  # of the cheapest number of the sandbox, seed 1
JOB = Decimal("0.054")  # and of the calls around it: offers, a poll, the confirmation


def receive(sms: Client, **options: Any) -> str | None:
    return sms.receive_code("telegram", max_price="0.30", **options).code


# --- clients and time


def test_a_planned_sms_arrives_while_the_client_waits(virtualsms: VirtualSMS, sms: Client) -> None:
    virtualsms.sms_arrives(CODE, after=100)
    begun = virtualsms.sandbox.now()
    assert receive(sms) == "482913"
    assert virtualsms.sandbox.now() - begun == 100
    virtualsms.assert_spent("0.054")


def test_plans_are_of_one_number_each_and_a_swap_is_a_number(
    virtualsms: VirtualSMS, sms: Client
) -> None:
    virtualsms.stays_silent()
    virtualsms.sms_arrives("Your code is 111111")
    virtualsms.sms_arrives()
    numbers: list[str] = []
    assert receive(sms, on_number=numbers.append) == "111111"
    assert len(numbers) == 2
    own = receive(sms)
    assert own is not None
    assert own not in ("111111", "482913")
    with pytest.raises(NoCodeReceived):
        receive(sms)


@pytest.mark.virtualsms(faults=[Fault("drop-after-settle", route="POST /orders", paid=True)])
def test_a_plan_is_kept_where_an_answer_is_lost(virtualsms: VirtualSMS, sms: Client) -> None:
    virtualsms.sms_arrives(CODE)
    assert receive(sms) == "482913"
    assert not any(paying.RETRY_PAUSES)  # seconds of real time


@pytest.mark.virtualsms(funded=Decimal("0.04"))
def test_a_plan_waits_for_a_number_that_is_paid_for(virtualsms: VirtualSMS, sms: Client) -> None:
    def fund(amount: str) -> None:
        virtualsms.sandbox.fund(virtualsms.wallet.address, amount)

    virtualsms.sandbox.set_price("telegram", "DE", "0.05")
    virtualsms.stays_silent()
    virtualsms.sms_arrives(CODE)
    with pytest.raises(PaymentRefused):
        sms.orders.create("telegram", "DE")
    fund("0.0105")
    order_id = sms.orders.create("telegram", "DE").order_id
    virtualsms.advance(130)
    with pytest.raises(PaymentRefused):
        sms.orders.swap(order_id)
    fund("1")
    sms.orders.swap(order_id)
    assert sms.orders.wait_for_sms(order_id).code == "482913"


@pytest.mark.anyio
async def test_the_async_client_waits_in_virtual_time_too(
    virtualsms: VirtualSMS, async_sms: AsyncClient
) -> None:
    async with async_sms.verification("telegram", max_price="0.30") as job:
        virtualsms.deliver(CODE, order=job)
        assert (await job.wait(180)).code == "482913"
    virtualsms.assert_spent(JOB)


@pytest.mark.anyio
async def test_a_silent_async_job_ends_without_waiting(
    virtualsms: VirtualSMS, async_sms: AsyncClient
) -> None:
    with pytest.raises(NoCodeReceived):
        await async_sms.receive_code("telegram", max_price="0.30")
    virtualsms.assert_spent(refunded=PRICE)
    virtualsms.assert_no_open_orders()


@pytest.mark.anyio
async def test_an_async_client_that_was_closed_is_closed_again_without_harm(
    virtualsms: VirtualSMS,
) -> None:
    async with virtualsms.async_client() as client:
        assert (await client.account.balance()).currency == "USDC"


def test_a_client_with_an_api_key_pays_from_the_account(
    virtualsms: VirtualSMS, rest_sms: Client
) -> None:
    virtualsms.sms_arrives(CODE)
    assert receive(rest_sms) == "482913"
    with pytest.raises(NoCodeReceived):
        receive(rest_sms)
    virtualsms.assert_spent(2 * PRICE, refunded=PRICE)
    assert [payment.refunded for payment in virtualsms.payments] == [0, PRICE]
    virtualsms.assert_no_open_orders()


def test_another_client_has_the_settings_it_is_given(virtualsms: VirtualSMS, sms: Client) -> None:
    virtualsms.sms_arrives(CODE)
    assert receive(sms, intent="signup-7") == "482913"
    again = virtualsms.client(ledger=sms.ledger)
    assert receive(again, intent="signup-7") == "482913"
    assert len(virtualsms.orders) == 1


# --- deliveries


WAYS: dict[str, Callable[[Any], Any]] = {
    "the-open-one": lambda job: None,
    "its-id": lambda job: job.order.order_id,
    "its-number": lambda job: job.phone_number,
    "the-order": lambda job: job.order,
    "the-job": lambda job: job,
}


@pytest.mark.parametrize("way", WAYS)
def test_an_sms_is_delivered_to(way: str, virtualsms: VirtualSMS, sms: Client) -> None:
    with sms.verification("telegram", max_price="0.30") as job:
        virtualsms.deliver(CODE, order=WAYS[way](job), sender="Acme")
        assert job.wait(60).code == "482913"
        assert sms.orders.get(job.order.order_id).messages[0].sender == "Acme"


def test_what_cannot_be_delivered_says_which_orders_there_are(
    virtualsms: VirtualSMS, sms: Client
) -> None:
    with pytest.raises(LookupError, match=r"^no open order; the orders:\n  none$"):
        virtualsms.deliver(CODE)
    first = sms.orders.create("telegram", "DE")
    second = sms.orders.create("telegram", "FR")
    with pytest.raises(LookupError, match=f"2 open orders: say which.*\n  {first.order_id} "):
        virtualsms.deliver(CODE)
    with pytest.raises(LookupError, match=r"no open order \+49"):
        virtualsms.deliver(CODE, order="+49")
    with pytest.raises(TypeError, match="an order or a job"):
        virtualsms.deliver(CODE, order=7)  # type: ignore[arg-type]  # what is tested
    virtualsms.advance(130)
    sms.orders.cancel(second.order_id)
    with pytest.raises(LookupError, match=f"(?s)no open order {second.order_id};.*FR: cancelled"):
        virtualsms.deliver(CODE, order=second)
    virtualsms.deliver(CODE)
    assert sms.orders.get(first.order_id).has_sms


def test_an_sms_does_not_arrive_in_the_past(virtualsms: VirtualSMS) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        virtualsms.sms_arrives(after=-1)


# --- money


def test_spent_refunded_and_cost_are_exact(virtualsms: VirtualSMS, sms: Client) -> None:
    virtualsms.assert_nothing_spent()
    with pytest.raises(NoCodeReceived), sms.meter() as meter:
        receive(sms)
    assert (virtualsms.spent, virtualsms.refunded) == (meter.total, PRICE)
    assert virtualsms.cost == meter.total - PRICE == Decimal("0.004")
    virtualsms.assert_spent("0.054", at_most="0.054", refunded="0.05")


SPENT_JOB = r"""0.054 USDC were spent, not nothing; the payments:
  0.001  GET /api/v2/services/telegram/availability
  0.05  POST /api/v2/orders
  0.002  GET /api/v2/orders/ord_\w+/sms
  0.001  POST /api/v2/orders/ord_\w+/confirm"""

FAILING: dict[str, tuple[Callable[[VirtualSMS], None], str]] = {
    "exactly": (lambda it: it.assert_spent("0.05"), r"0\.054 USDC were spent, not 0\.05; the p"),
    "at-most": (lambda it: it.assert_spent(at_most=0), r"0\.054 USDC were spent, more than 0\.00;"),
    "refunded": (lambda it: it.assert_spent(refunded=1), r"0\.00 USDC were refunded, not 1\.00;"),
    "nothing": (lambda it: it.assert_nothing_spent(), SPENT_JOB),
}


@pytest.mark.virtualsms(sms_after=5)
@pytest.mark.parametrize("assertion", FAILING)
def test_an_assertion_that_fails_lists_the_payments(
    assertion: str, virtualsms: VirtualSMS, sms: Client
) -> None:
    receive(sms)
    check, said = FAILING[assertion]
    with pytest.raises(AssertionError, match=said):
        check(virtualsms)


def test_an_open_order_is_named(virtualsms: VirtualSMS, sms: Client) -> None:
    virtualsms.assert_no_open_orders()
    order = sms.orders.create("telegram", "DE")
    with pytest.raises(AssertionError, match=f"still open:\n  {order.order_id}  .*DE: waiting"):
        virtualsms.assert_no_open_orders()
    virtualsms.advance(2000)
    virtualsms.assert_no_open_orders()


def test_a_refund_is_shown_with_its_payment(virtualsms: VirtualSMS, sms: Client) -> None:
    with pytest.raises(NoCodeReceived):
        receive(sms)
    with pytest.raises(AssertionError, match=r"0\.05  POST /api/v2/orders, 0\.05 of it refunded"):
        virtualsms.assert_nothing_spent()


NO_AMOUNTS: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({}, "how much"),
    "a-float": ({"exactly": 0.054}, "never a float"),
    "a-float-at-most": ({"at_most": 0.3}, "never a float"),
}


@pytest.mark.parametrize("case", NO_AMOUNTS)
def test_what_is_asserted_is_an_amount(case: str, virtualsms: VirtualSMS) -> None:
    arguments, said = NO_AMOUNTS[case]
    with pytest.raises(TypeError, match=said):
        virtualsms.assert_spent(**arguments)


# --- nothing of the developer's


@pytest.fixture
def developer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Wallet:
    """Somebody with settings, a wallet and a stored key, in all the places where they can be."""
    settings = {
        "PRIVATE_KEY": KEY,
        "API_KEY": "sk_live_developer",
        "NETWORK": "base",
        "BASE_URL": "http://127.0.0.1:9/api/v2",
        "RPC_URL": "http://127.0.0.1:9",
        "LEDGER": str(tmp_path / "own.db"),
        "MAX_PER_CALL": "0.000001",
        "PAY_TO": "0x" + "11" * 20,
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"X402SMS_{name}", value)
    Path(".env").write_text("".join(f"X402SMS_{name}={it}\n" for name, it in settings.items()))
    store_key(DEFAULT_REST, ApiKey("sk_live_stored"))
    monkeypatch.setattr("keyring.get_password", lambda service, host: "sk_live_in_keyring")
    monkeypatch.setattr("keyring.set_password", _no_test_writes_here)
    return Wallet.from_key(KEY)


def _no_test_writes_here(*_: str) -> None:
    raise AssertionError("the developer's keyring")


@pytest.mark.virtualsms(sms_after=5)
def test_no_setting_and_no_key_of_a_developer_is_used(
    developer: Wallet, virtualsms: VirtualSMS, sms: Client, rest_sms: Client, tmp_path: Path
) -> None:
    assert virtualsms.wallet.address != developer.address
    for client in (sms, rest_sms):
        receive(client)
        assert client.settings.limits == SpendLimits()
        assert (client.settings.rpc_url, client.settings.network.name) == (None, "base-sepolia")
    payers = {payment["payer"] for payment in virtualsms.sandbox.payments()}
    assert payers == {virtualsms.wallet.address}
    assert load_key(DEFAULT_REST) is None
    with pytest.raises(ConfigError):  # of the code under test: it finds no wallet, and no key
        Client()
    assert not (tmp_path / "own.db").exists()


@pytest.mark.usefixtures("developer")
def test_a_key_that_a_test_tops_up_is_kept_by_that_test(
    virtualsms: VirtualSMS, tmp_path: Path
) -> None:
    sms = virtualsms.client(limits=SpendLimits(per_call=5))
    kept_in = sms.topup(5).kept_in
    assert kept_in is not None
    assert Path(kept_in).is_relative_to(tmp_path)


# --- settings


class TestMarkers:
    pytestmark = pytest.mark.virtualsms(cooldown=60, seed=7)

    @pytest.mark.virtualsms(cooldown=0)
    def test_the_nearest_wins(self, virtualsms: VirtualSMS) -> None:
        config = virtualsms.sandbox.state.config
        assert (config.cooldown, config.seed, config.virtual_time) == (0, 7, True)

    def test_of_a_class(self, virtualsms: VirtualSMS) -> None:
        assert virtualsms.sandbox.state.config.cooldown == 60


@pytest.mark.virtualsms(virtual_time=False, sms_after=0)
def test_in_real_time_a_client_has_the_systems_clock(virtualsms: VirtualSMS, sms: Client) -> None:
    assert isinstance(sms.clock, SystemClock)
    assert receive(sms) is not None


# --- run as other people run it

WRONG: dict[str, tuple[str, str, str]] = {
    "setting": ("virtualsms(cooldwn=0)", "sms", "*virtualsms: no setting cooldwn; there are *"),
    "position": ("virtualsms(0)", "sms", "*takes settings by name, such as cooldown=0*"),
    "value": ("virtualsms(cooldown=-1)", "sms", "*cooldown and sms_after are not negative*"),
    "anvil": ("virtualsms(settlement='anvil', rpc_url='http://127.0.0.1:1')", "sms", "*in memory*"),
    "two-colours": ("virtualsms", "sms, async_sms", "*sync clients or async ones*not both*"),
}


def test_what_is_wrong_is_said_and_nothing_else_fails(pytester: pytest.Pytester) -> None:
    """One run for all: the marker is known under --strict-markers, the errors have one line."""
    tests = [
        f"@pytest.mark.{marker}\ndef test_{name.replace('-', '_')}({fixtures}): pass"
        for name, (marker, fixtures, _) in WRONG.items()
    ]
    pytester.makepyfile("import pytest\n" + "\n".join(tests) + "\ndef test_fine(sms): pass")
    result = pytester.runpytest_inprocess("--strict-markers", "-p", "no:cacheprovider")
    result.assert_outcomes(errors=len(WRONG), passed=1)
    for _, _, said in WRONG.values():
        result.stdout.fnmatch_lines(said)


RUNNER = """
    import asyncio, inspect, pytest

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(pyfuncitem):
        if not inspect.iscoroutinefunction(pyfuncitem.obj):
            return None
        names = pyfuncitem._fixtureinfo.argnames
        with asyncio.Runner() as runner:
            runner.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True
"""


def test_async_fixtures_need_no_plugin_of_their_own(pytester: pytest.Pytester) -> None:
    """Whoever runs the coroutines, and in which loop: here it is over before the fixture ends."""
    pytester.makeconftest(RUNNER)
    pytester.makepyfile(
        """
        async def test_it(virtualsms, async_sms):
            virtualsms.sms_arrives("Your code is 482913")
            received = await async_sms.receive_code("telegram", max_price="0.30")
            assert received.code == "482913"
        """
    )
    result = pytester.runpytest_inprocess("-W", "error", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)


def test_the_guide_does_what_it_says(pytester: pytest.Pytester) -> None:
    blocks = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    pytester.makepyfile(**{f"test_block_{number}": block for number, block in enumerate(blocks)})
    result = pytester.runpytest_inprocess("-W", "error", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=len(blocks))
    assert len(blocks) >= 5


def test_the_guide_names_every_fixture() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", GUIDE, re.MULTILINE))
    assert named == {name for name, it in vars(plugin).items() if isinstance(it, FIXTURE)}


# --- light, and without the extra


def test_the_plugin_is_loaded_by_pytest_itself() -> None:
    [found] = importlib.metadata.entry_points(group="pytest11", name="x402sms")
    assert found.value == "x402sms.pytest_plugin"


def test_loading_the_plugin_loads_nothing_else() -> None:
    program = (
        "import pytest, sys; before = set(sys.modules); import x402sms.pytest_plugin; "
        "print(*sorted(set(sys.modules) - before))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split())
    ours = {name for name in loaded if name.startswith("x402sms")}
    assert ours == {"x402sms", "x402sms._version", "x402sms.pytest_plugin"}
    assert {name.split(".")[0] for name in loaded - ours} <= set(sys.stdlib_module_names)


def test_without_the_extra_only_what_needs_it_fails(tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError(name='fastapi')")
    (tmp_path / "test_them.py").write_text(
        "def test_without(): pass\ndef test_with(sms): pass\ndef test_too(virtualsms): pass\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis"],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.stdout.count("pip install 'x402sms[sandbox]'") >= 2, run.stdout
    assert "1 passed, 2 errors" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


def test_a_name_that_the_plugin_has_not_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'VirtualSmS'"):
        plugin.VirtualSmS  # noqa: B018  the look-up is what is tested
    assert plugin.VirtualSMS.__name__ == "VirtualSMS"
