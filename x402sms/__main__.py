"""`python -m x402sms`: the same as the `x402sms` command."""

from __future__ import annotations

import sys

from x402sms.cli import main

if __name__ == "__main__":
    sys.exit(main())
