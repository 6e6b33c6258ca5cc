"""Every example is run, against the sandbox or the real parts: what it says, and what it cost."""

from __future__ import annotations

import csv
import os
import re
import runpy
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from tests.funded import named_in_environment
from tests.parts.fixtures import LocalChain
from tests.parts.official_server import OfficialServer
from x402sms import Wallet
from x402sms.money import to_usdc
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

# Where each file of examples/ is run. One that is not here fails the suite.
HERE = "tests/test_examples.py"
RUN_IN = {
    "agent_with_budget.py": "tests/mcp/test_examples.py",
    "any_x402_api.py": HERE,
    "fleet/run.py": "tests/test_fleet_example.py",
    "fleet/worker.py": "tests/test_fleet_example.py",
    "mcp/claude_code.mcp.json": "tests/mcp/test_examples.py",
    "mcp/claude_desktop_config.json": "tests/mcp/test_examples.py",
    "mcp/codex.config.toml": "tests/mcp/test_examples.py",
    "mcp/cursor.mcp.json": "tests/mcp/test_examples.py",
    "mcp/http.mcp.json": "tests/mcp/test_examples.py",
    "mcp/vscode.mcp.json": "tests/mcp/test_examples.py",
    "own_ledger/dict_ledger.py": HERE,
    "own_ledger/test_dict_ledger.py": HERE,
    "receive_code.py": HERE,
    "test_signup.py": HERE,
    "topup_then_rest.py": HERE,
    "webhook_receiver.py": "tests/webhooks/test_example.py",
}


def test_every_example_is_run_somewhere() -> None:
    files = (path for path in EXAMPLES.rglob("*") if path.is_file() and path.suffix != ".pyc")
    names = {str(path.relative_to(EXAMPLES)) for path in files if path.name != "README.md"}
    assert names == RUN_IN.keys()
    for name, module in RUN_IN.items():
        assert Path(name).name in (ROOT / module).read_text(encoding="utf-8"), module


def test_every_example_has_its_line_in_the_list() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in RUN_IN if f"({name})" not in listed] == []


# --- on the sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    """One for all: they keep apart by their wallets."""
    with running_sandbox(SandboxConfig(sms_after=0.1)) as running:
        yield running


@pytest.fixture
def wallet(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> Wallet:
    return named_in_environment(sandbox, monkeypatch)


@dataclass(frozen=True)
class Ran:
    """`said` is what stands on stderr: that which `sys.exit` was given too."""

    status: int
    out: str
    said: str


class Run:
    """Runs an example in this process, as `python examples/NAME ARGUMENTS` would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, name: str, *arguments: str) -> Ran:
        path = str(EXAMPLES / name)
        self._monkeypatch.setattr(sys, "argv", [path, *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(path, run_name="__main__")
        out, said = self._capsys.readouterr()
        if isinstance(ended.value.code, str):
            return Ran(1, out, said + ended.value.code)
        return Ran(ended.value.code or 0, out, said)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(monkeypatch, capsys)


def paid(sandbox: RunningSandbox, wallet: Wallet) -> Decimal:
    """USDC, by the sandbox's books."""
    return to_usdc(sandbox.books(wallet.address)[0])


def test_receive_code_prints_a_number_a_code_and_what_was_paid(
    run: Run, sandbox: RunningSandbox, wallet: Wallet
) -> None:
    ran = run("receive_code.py", "telegram")
    number, cost, code = ran.out.splitlines()
    assert ran.status == 0
    assert number.startswith("enter this number: +")
    assert cost == f"paid in all: {paid(sandbox, wallet)} USDC in 4 calls"
    assert len(code.removeprefix("code: ")) == 6
    assert [status for _, status in sandbox.orders_of(wallet.address)] == ["confirmed"]


@pytest.mark.usefixtures("wallet")
def test_receive_code_needs_no_argument(run: Run) -> None:
    assert "code: " in run("receive_code.py").out


def test_receive_code_says_what_stopped_it(
    run: Run, sandbox: RunningSandbox, wallet: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402SMS_MAX_PER_CALL", "0.01")
    ran = run("receive_code.py", "telegram")
    assert (ran.status, ran.out) == (1, "paid in all: 0.001000 USDC in 1 calls\n")
    assert ran.said.startswith("no code: ")
    assert "per_call" in ran.said
    assert sandbox.orders_of(wallet.address) == []


def test_topup_then_rest_pays_once_and_buys_from_the_balance(
    run: Run, sandbox: RunningSandbox, wallet: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402SMS_MAX_PER_CALL", "5")
    first = run("topup_then_rest.py", "5", "november", "telegram")
    assert first.status == 0, first.said
    assert first.out.startswith("paid 5 USDC; the account has 5.00 USDC\nthe key is kept in /")
    assert "left: 4.95 USDC" in first.out
    again = run("topup_then_rest.py", "5", "november", "telegram")
    assert "left: 4.90 USDC" in again.out
    assert paid(sandbox, wallet) == 5
    assert sandbox.orders_of(wallet.address) == []  # the account's they are


def test_any_x402_api_bills_each_call_once(
    run: Run, sandbox: RunningSandbox, wallet: Wallet
) -> None:
    urls = [f"{sandbox.url}/countries", f"{sandbox.url}/services/telegram/cheapest"]
    for _ in range(2):
        ran = run("any_x402_api.py", "monday", *urls)
        assert ran.status == 0, ran.said
        for url in urls:
            assert f"{url}: paid 0.001000 USDC to {sandbox.pay_to}, settled, transac" in ran.out
    with open("bill.csv", newline="", encoding="utf-8") as bill:
        rows = list(csv.DictReader(bill))
    assert {row["intent"] for row in rows} == {f"monday {url}" for url in urls}
    assert sum(Decimal(row["amount"]) for row in rows) == paid(sandbox, wallet)


def test_any_x402_api_stops_at_its_budget(
    run: Run, sandbox: RunningSandbox, wallet: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X402SMS_MAX_TOTAL", "0.0015")
    urls = [f"{sandbox.url}/countries", f"{sandbox.url}/services"]
    ran = run("any_x402_api.py", "monday", *urls)
    assert ran.status == 1
    assert ran.said.startswith(f"{urls[1]}: ")
    assert "total" in ran.said
    assert paid(sandbox, wallet) == Decimal("0.001")
    assert Path("bill.csv").read_text().count("settled") == 1


def test_any_x402_api_pays_an_official_server(
    base_chain: LocalChain, official_server: OfficialServer, tmp_path: Path
) -> None:
    """As a program of its own, and again: the server answers a payment once."""
    key = "0x" + secrets.token_hex(32)
    base_chain.usdc.mint(Wallet.from_key(key).address, 20_000)
    before = base_chain.usdc.balance(official_server.pay_to)
    program = [sys.executable, str(EXAMPLES / "any_x402_api.py"), "monday"]
    said = [
        subprocess.run(
            [*program, f"{official_server.url}/paid/weather"],
            env=os.environ | {"X402SMS_PRIVATE_KEY": key},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for _ in range(2)
    ]
    assert "paid 0.010000 USDC to 0x" in said[0]
    assert "paid before, 0.010000 USDC" in said[1]
    assert base_chain.usdc.balance(official_server.pay_to) == before + 10_000


WITHOUT: dict[str, tuple[tuple[str, ...], str]] = {
    "receive_code.py": (("telegram",), "X402SMS_PRIVATE_KEY"),
    "any_x402_api.py": (("monday", "http://127.0.0.1:9/"), "X402SMS_PRIVATE_KEY"),
    "topup_then_rest.py": (("5", "november", "telegram"), "X402SMS_PRIVATE_KEY"),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_without_a_wallet_it_says_what_to_set(name: str, run: Run) -> None:
    arguments, said = WITHOUT[name]
    ran = run(name, *arguments)
    assert ran.status == 1
    assert said in ran.said


@pytest.mark.parametrize("name", ["any_x402_api.py", "topup_then_rest.py"])
def test_without_arguments_it_says_how_it_is_used(name: str, run: Run) -> None:
    assert run(name).said.startswith(f"usage: {name} ")


def test_the_tests_to_copy_pass_where_they_are_copied_to(pytester: pytest.Pytester) -> None:
    text = (EXAMPLES / "test_signup.py").read_text(encoding="utf-8")
    pytester.makepyfile(test_copied=text)
    result = pytester.runpytest_inprocess("-W", "error", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=text.count("\ndef test_") + text.count("\nasync def test_"))


def test_the_ledger_of_ones_own_conforms_where_it_is_copied_to(pytester: pytest.Pytester) -> None:
    for name in ("dict_ledger.py", "test_dict_ledger.py"):
        text = (EXAMPLES / "own_ledger" / name).read_text(encoding="utf-8")
        pytester.path.joinpath(name).write_text(text, encoding="utf-8")
    result = pytester.runpytest_subprocess("-q", "-W", "error", "-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    assert outcomes.keys() == {"passed"}
    assert outcomes["passed"] > 150


def test_the_guide_to_ledgers_shows_the_module_that_is_run() -> None:
    guide = (ROOT / "docs" / "ledgers.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert block in (EXAMPLES / "own_ledger" / "test_dict_ledger.py").read_text(encoding="utf-8")
