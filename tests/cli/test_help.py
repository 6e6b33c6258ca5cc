"""Help, version, usage: what can be asked before anything is set up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.cli.conftest import Cli, MakeCli
from x402sms import __version__
from x402sms.cli.app import app

LEAVES = {
    "code", "demo", "services", "countries", "prices", "availability", "cheapest", "sandbox",
    "orders create", "orders list", "orders show", "orders wait", "orders swap", "orders cancel",
    "orders confirm", "orders extend", "orders release",
    "account profile", "account balance", "account stats", "account transactions",
    "wallet new", "wallet show", "wallet balance", "payments list", "payments show",
    "payments reconcile", "payments cancel", "payments rebuild", "payments export", "recover",
    "leases", "spend", "topup", "mcp", "webhooks listen",
}  # fmt: skip
GROUPS = {"orders", "account", "wallet", "payments", "webhooks"}


def _commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield f"{path} {name}".strip(), inner
        yield from _commands(inner, f"{path} {name}")


ALL = dict(_commands(typer.main.get_command(app)))


@pytest.fixture
def bare(make_cli: MakeCli) -> Cli:
    return make_cli()


def test_the_commands_are_those_of_the_contract() -> None:
    assert {" ".join(name.split()) for name in ALL} == LEAVES | GROUPS


@pytest.mark.parametrize("name", sorted(LEAVES | GROUPS))
def test_every_command_has_help_with_an_example_of_itself(name: str, bare: Cli) -> None:
    ended = bare(*name.split(), "--help")
    assert (ended.status, ended.err) == (0, "")
    _, heading, examples = ended.out.partition("Example:\n")
    assert heading
    assert f"x402sms {name}" in examples
    assert max(map(len, ended.out.splitlines())) <= 80


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_every_command_speaks_json_and_none_takes_a_key(name: str, bare: Cli) -> None:
    options = bare(*name.split(), "--help").out
    assert "--json" in options
    for word in ("--key", "--private", "--password", "--mnemonic"):
        assert word not in options


@pytest.mark.parametrize("name", ["", *sorted(GROUPS)])
def test_a_name_alone_prints_its_help(name: str, bare: Cli) -> None:
    alone = bare(*name.split())
    assert (alone.status, alone.err) == (0, "")
    assert alone.out == bare(*name.split(), "--help").out


def test_it_says_its_version(bare: Cli) -> None:
    assert bare("--version").out == f"x402sms {__version__}\n"


def test_it_also_runs_under_typers_own_runner() -> None:
    result = CliRunner().invoke(app, ["cheapest", "--help"])
    assert result.exit_code == 0
    assert "x402sms cheapest telegram" in result.output


def test_asking_for_help_loads_nothing_heavy() -> None:
    ask = (
        "import sys; from x402sms.cli import main; main(['--help']); main(['code', '--help']);"
        "heavy = ('web3', 'eth_account', 'httpx', 'fastapi', 'rich', 'coincurve');"
        "sys.exit(str([name for name in heavy if name in sys.modules]))"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", ask],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert ended.stderr == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["code", "telegram"], "--max-price"),
        (["cheapest"], "SERVICE"),
        (["orders", "wait", "ord_1", "--timeout", "181"], "--timeout"),
        (["orders", "extend", "ord_1", "soon"], "HOURS"),
        (["payments", "list", "--state", "gone"], "'gone' is not one of 'reserved'"),
        (["payments", "rebuild"], "--from-block"),
        (["payments", "rebuild", "--from-block", "-1"], "--from-block"),
        (["payments", "export", "--format", "xml"], "'xml' is not one of 'csv'"),
        (["servces"], "Did you mean 'services'"),
        (["services", "--jsn"], "--jsn"),
    ],
)
def test_a_usage_error_is_one_sentence_and_status_2(
    arguments: list[str], says: str, bare: Cli
) -> None:
    plain = bare(*arguments)
    assert (plain.status, plain.out, plain.err.count("\n")) == (2, "", 1)
    assert plain.err.startswith("error: ")
    assert says in plain.err
    assert "--help" in plain.err
    told = bare(*arguments, "--json")
    assert told.err == ""
    assert told.error["type"] == "UsageError"
    assert says in told.error["message"]
