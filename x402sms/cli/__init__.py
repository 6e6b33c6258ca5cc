"""The `x402sms` command. Each command imports what it needs when it runs: `--help` stays light.

Exit status: 0 done, 1 unexpected, 2 usage or configuration, 3 refused by your own limits,
4 payment refused, 5 outcome unknown, 6 the service said no, 7 no code in time, 8 host not
reachable; 130 for Ctrl-C where no money is in doubt. See `failures.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; None: `sys.argv`."""
    from x402sms.cli.app import run

    return run(list(sys.argv[1:] if arguments is None else arguments))
