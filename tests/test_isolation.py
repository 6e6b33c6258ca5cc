"""The suite can never sign with a developer's own key: shown from outside, with one set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from x402sms.config import environment

ROOT = Path(__file__).parent.parent
KEY = "0x" + "42" * 32

PROBE = """
import os
from x402sms.config import environment
from x402sms.ledger import default_ledger_path

def test_probe():
    assert environment() == {}
    assert not [name for name in os.environ if name.startswith("X402SMS_")]
    assert not default_ledger_path().exists()
"""


def test_settings_of_a_developer_do_not_reach_a_test() -> None:
    """Runs a test of this suite in a process, a folder and a home that all have a wallet."""
    probe = ROOT / "tests" / f"test_probe_{os.getpid()}.py"
    dotenv = Path(".env")
    dotenv.write_text(f"X402SMS_PRIVATE_KEY={KEY}\n")
    (Path("x402sms")).mkdir()
    Path("x402sms/payments.db").touch()
    probe.write_text(PROBE)
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", str(probe)],
            env=os.environ | {"X402SMS_PRIVATE_KEY": KEY, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    finally:
        probe.unlink()
    assert run.returncode == 0, run.stdout + run.stderr
    assert environment() == {"X402SMS_PRIVATE_KEY": KEY}  # where it does stand, it is read
