"""What a user installs: the wheel, its contents, and how light it is."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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
        "x402sms/ledger/migrations/sqlite_0001.sql",
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


def test_the_sandboxs_packages_come_only_with_the_extra(wheel: zipfile.ZipFile) -> None:
    [metadata] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    needs = [
        line.removeprefix("Requires-Dist: ")
        for line in wheel.read(metadata).decode().splitlines()
        if line.startswith("Requires-Dist: ")
    ]
    extra = [need for need in needs if "extra == 'sandbox'" in need]
    assert sorted(need.split(">")[0] for need in extra) == ["fastapi", "uvicorn"]
    core = {need.split(">")[0] for need in needs if "extra" not in need}
    assert core.isdisjoint({"fastapi", "uvicorn"})


def test_every_public_name_is_there_and_nothing_else_is_promised() -> None:
    names = [name for name in x402sms.__all__ if not name.startswith("_")]
    assert [getattr(x402sms, name).__name__ for name in names] == names
    assert set(dir(x402sms)) == set(x402sms.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Clinet'"):
        x402sms.Clinet  # noqa: B018  the look-up is what is tested


def test_a_missing_extra_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError(name='fastapi')")
    program = (
        "import x402sms.errors\n"
        "try:\n    import x402sms.sandbox\n"
        "except x402sms.errors.ConfigError as error:\n    print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install 'x402sms[sandbox]'" in run.stdout


def test_the_node_parts_are_locked_without_addresses() -> None:
    locked = json.loads((ROOT / "package-lock.json").read_text())
    assert not [name for name, part in locked["packages"].items() if "resolved" in part]
    assert all("integrity" in part for name, part in locked["packages"].items() if name)
    constraints = (ROOT / "constraints.txt").read_text()
    assert "://" not in constraints
    assert "@ " not in constraints
