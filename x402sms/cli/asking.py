"""Questions before money moves: asked on a terminal, answered by `--yes` anywhere else."""

from __future__ import annotations

import sys

import typer


def can_ask() -> bool:
    return sys.stdin.isatty()


def agreed(question: str) -> bool:
    """The answer of whoever sits there. On stderr: stdout is for results. No is the default."""
    return bool(typer.confirm(question, default=False, err=True))
