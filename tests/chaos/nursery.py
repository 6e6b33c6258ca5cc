"""The test's side of `child.py`: lives are given, deaths come back."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from tests.chaos.child import Death, Life

_ROOT: Final = Path(__file__).parents[2]
_PATIENCE: Final = 30  # seconds


class Nursery:
    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process = process
        self._errors = errors

    def run(self, *lives: Life) -> list[Death]:
        """Begin them all at once; how each ended, once all have."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(lives) + "\n")
        self._process.stdin.flush()
        deaths: list[Death] = json.loads(self.line())
        return deaths

    def line(self) -> str:
        """Every life is bounded, so this is too."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise RuntimeError(f"the paying process has ended: {self._errors.read()}")
        return line


@contextmanager
def running_nursery() -> Iterator[Nursery]:
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.child"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            nursery = Nursery(process, errors)
            nursery.line()
            yield nursery
            assert process.stdin is not None
            process.stdin.close()  # it ends with its input
            process.wait(_PATIENCE)
        finally:
            process.kill()
