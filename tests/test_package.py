"""What a user installs: the wheel, its contents, and how light it is."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import x402sms

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [path] = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_carries_the_abi_the_types_and_the_migrations(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {
        "contracts_abi/FiatTokenV2_2.json",
        "x402sms/py.typed",
        "x402sms/conformance/suite.py",
        "x402sms/ledger/migrations/postgres_0001.sql",
        "x402sms/ledger/migrations/sqlite_0001.sql",
        "x402sms/ledger/sql/postgres/payments.sql",
        "x402sms/sandbox/app.py",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "examples/"))]


def test_the_wheel_alone_reads_the_abi_and_opens_a_ledger(
    wheel: zipfile.ZipFile, tmp_path: Path
) -> None:
    wheel.extractall(tmp_path / "site")
    program = (
        "from x402sms.chain import usdc_abi\n"
        "from x402sms import open_ledger, __file__ as here\n"
        "open_ledger('payments.db').close()\n"
        "print(len(usdc_abi()), here)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    count, here = run.stdout.split(maxsplit=1)
    assert int(count) >= 10
    assert here.startswith(str(tmp_path))


EXTRAS = {
    "sandbox": {"fastapi", "uvicorn"},
    "mcp": {"mcp"},
    "webhooks": {"starlette", "uvicorn"},
    "keyring": {"keyring"},
    "postgres": {"psycopg"},
    "conformance": {"pytest", "hypothesis"},
}


def test_the_packages_of_an_extra_come_only_with_it(wheel: zipfile.ZipFile) -> None:
    [metadata] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    needs = [
        Requirement(line.removeprefix("Requires-Dist: "))
        for line in wheel.read(metadata).decode().splitlines()
        if line.startswith("Requires-Dist: ")
    ]
    for extra, packages in EXTRAS.items():
        with_it = {need.name for need in needs if _is_wanted(need, extra)}
        without = {need.name for need in needs if _is_wanted(need, "")}
        assert with_it - without == packages
    # Nor does anything that the base install brings need one of them in its turn.
    assert _closure(without).isdisjoint(set().union(*EXTRAS.values()))


def _is_wanted(need: Requirement, extra: str) -> bool:
    return need.marker is None or need.marker.evaluate({"extra": extra})


def _closure(names: Iterable[str]) -> set[str]:
    """What is installed with these packages, by what each says of itself."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        needs = map(Requirement, distribution(name).requires or ())
        waiting += [need.name for need in needs if _is_wanted(need, "")]
    assert len(found) > 20
    return found


def test_every_public_name_is_there_and_nothing_else_is_promised() -> None:
    names = [name for name in x402sms.__all__ if not name.startswith("_")]
    assert [getattr(x402sms, name).__name__ for name in names] == names
    assert set(dir(x402sms)) == set(x402sms.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        x402sms.Clinet  # noqa: B018  the look-up is what is tested


MISSING = {
    "sandbox": ("fastapi", "import x402sms.sandbox"),
    "sandbox command": ("fastapi", "from x402sms.cli.app import run; run(['sandbox'])"),
    "mcp": ("mcp", "from x402sms.cli.app import run; run(['mcp'])"),
    "webhooks": ("uvicorn", "from x402sms.cli.app import run; run(['webhooks', 'listen'])"),
    "postgres": (
        "psycopg",
        "from x402sms import open_ledger; open_ledger('postgresql://host/database')",
    ),
    "conformance": ("pytest", "import x402sms.conformance"),
    "conformance of any sequence": ("hypothesis", "import x402sms.conformance"),
    "webhooks in an application": (
        "starlette",
        "from x402sms.webhooks import WebhookReceiver",
    ),
}


@pytest.mark.parametrize("case", MISSING)
def test_a_missing_extra_says_what_to_install(case: str, tmp_path: Path) -> None:
    package, statement = MISSING[case]
    (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError(name={package!r})")
    program = (
        "import x402sms.errors\n"
        f"try:\n    {statement}\n"
        "except x402sms.errors.ConfigError as error:\n    print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "", "X402SMS_WEBHOOK_SECRET": "s" * 32},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"pip install 'x402sms[{case.split(maxsplit=1)[0]}]'" in run.stdout + run.stderr
    assert "Traceback" not in run.stderr


def test_the_node_parts_are_locked_without_addresses() -> None:
    locked = json.loads((ROOT / "package-lock.json").read_text())
    assert not [name for name, part in locked["packages"].items() if "resolved" in part]
    assert all("integrity" in part for name, part in locked["packages"].items() if name)
    constraints = (ROOT / "constraints.txt").read_text()
    assert "://" not in constraints
    assert "@ " not in constraints
