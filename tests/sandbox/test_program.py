"""The options of the two programs that start a sandbox: they say the same and do the same."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from x402sms.cli import main as x402sms
from x402sms.sandbox import FAULTS, WEBHOOK_FAULTS, Fault, SandboxConfig
from x402sms.sandbox.__main__ import main as module

Program = Callable[[list[str]], int]


def _command(arguments: list[str]) -> int:
    return x402sms(["sandbox", *arguments])


PROGRAMS: dict[str, Program] = {"x402sms sandbox": _command, "python -m": module}

OPTIONS: list[tuple[list[str], dict[str, Any]]] = [
    ([], {}),
    (["--virtual-time"], {"virtual_time": True}),
    (["--vocabulary", "live"], {"vocabulary": "live"}),
    (["--rate-limit", "60"], {"rate_limit": 60}),
    (["--price-drift", "3"], {"price_drift": 3}),
    (["--account-balance", "2.5"], {"account_balance": Decimal("2.5")}),
    (
        ["--webhook-url", "http://127.0.0.1:9/hook", "--webhook-secret", "whsec_1"],
        {"webhook_url": "http://127.0.0.1:9/hook", "webhook_secret": "whsec_1"},
    ),
    (["--cooldown", "120"], {"cooldown": 120}),
    (["--slow-seconds", "1.5"], {"slow_seconds": 1.5}),
    (
        ["--fault", "slow=0.5", "--fault", "truncate@POST /orders=1", "--fault-seed", "7"],
        {
            "faults": [Fault("slow", 0.5), Fault("truncate", 1, route="POST /orders")],
            "fault_seed": 7,
        },
    ),
]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[SandboxConfig]:
    """What would have been served."""
    configs: list[SandboxConfig] = []
    monkeypatch.setattr("x402sms.sandbox.serve", configs.append)
    monkeypatch.setattr("x402sms.sandbox.__main__.serve", configs.append)
    return configs


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("arguments", "config"), OPTIONS, ids=[" ".join(given) or "none" for given, _ in OPTIONS]
)
def test_an_option_means(
    program: str, arguments: list[str], config: dict[str, Any], served: list[SandboxConfig]
) -> None:
    assert PROGRAMS[program](arguments) == 0
    assert served == [SandboxConfig(**config)]


@pytest.mark.parametrize(
    "wrong",
    [
        ["--fault", "gremlins=1"],
        ["--fault", "slow"],
        ["--vocabulary", "x"],
        ["--rate-limit", "0"],
        ["--account-balance", "-1"],
        ["--webhook-url", "http://192.0.2.1/"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("program", PROGRAMS)
def test_what_cannot_be_is_a_wrong_use(
    program: str,
    wrong: list[str],
    served: list[SandboxConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    try:
        status = PROGRAMS[program](wrong)
    except SystemExit as ended:
        status = int(str(ended.code))
    assert (status, served) == (2, [])
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("program", PROGRAMS)
def test_its_help_names_every_fault(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(PROGRAMS[program](["--help"]))
    assert ended.value.code == 0
    shown = capsys.readouterr().out.replace("-\n  ", "-")
    words = shown.replace(",", " ").replace("(", " ").replace(".", " ").split()
    assert FAULTS.keys() | WEBHOOK_FAULTS.keys() <= set(words)
