"""A program in a real pseudo-terminal, and the screen as a person sees it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pexpect
import pyte
import pytest

from tests.cli.conftest import Cli

PATIENCE = 30  # seconds for anything to be seen
COLOUR = re.compile(rb"\x1b\[(?:[0-9]+;)*(?:3[0-9]|4[0-9]|9[0-7])[0-9;]*m")


class Terminal:
    """`screen` is what stands there now, without the empty lines below and the spaces behind."""

    def __init__(self, child: pexpect.spawn[bytes], columns: int, rows: int) -> None:
        self._child = child
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._unseen: list[bytes] = []
        self.raw = b""

    @property
    def screen(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip("\n")

    @property
    def lines(self) -> list[str]:
        return self.screen.splitlines()

    def see(self, pattern: str) -> str:
        """What matches `pattern`, once it is on the screen."""
        until = time.monotonic() + PATIENCE
        while (found := re.search(pattern, self.screen)) is None:
            if not self._look(until):
                pytest.fail(f"{pattern!r} was never on the screen, which is\n{self.screen}")
        return found[0]

    def end(self) -> int:
        """The exit status, once the program has ended."""
        until = time.monotonic() + PATIENCE
        while self._look(until):
            pass
        self._child.close()
        status = self._child.exitstatus
        assert status is not None, self.screen
        return status

    def interrupt(self) -> None:
        """Ctrl-C, as the keyboard sends it."""
        self._child.sendintr()

    def is_bold(self, text: str) -> bool:
        """Whether `text`, which is on the screen once, is bold."""
        [(row, column)] = [
            (row, line.index(text)) for row, line in enumerate(self._screen.display) if text in line
        ]
        return all(self._screen.buffer[row][column + at].bold for at in range(len(text)))

    def has_colour(self) -> bool:
        """Whether any was ever sent."""
        return COLOUR.search(self.raw) is not None

    def _look(self, until: float) -> bool:
        """A little more of what the program writes; False at its end.

        Up to where a line is drawn anew, so that nothing is missed that was there for a moment.
        """
        if not self._unseen:
            try:
                wait = max(0, until - time.monotonic())
                read = self._child.read_nonblocking(65536, timeout=wait)
            except pexpect.EOF:
                return False
            except pexpect.TIMEOUT:
                pytest.fail(f"nothing more was shown:\n{self.screen}")
            self.raw += read
            self._unseen = read.splitlines(keepends=True)
        self._stream.feed(self._unseen.pop(0))
        return True


@contextmanager
def in_terminal(
    cli: Cli,
    *command: str,
    columns: int = 80,
    rows: int = 24,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Terminal]:
    """`command` as a whole; `cli` has the wallet and the ledger."""
    program, *arguments = command
    child: pexpect.spawn[bytes] = pexpect.spawn(
        program,
        arguments,
        env={**cli.program_environment, "TERM": "xterm-256color", **(environment or {})},
        timeout=PATIENCE,
        dimensions=(rows, columns),
    )
    try:
        yield Terminal(child, columns, rows)
    finally:
        child.close(force=True)
