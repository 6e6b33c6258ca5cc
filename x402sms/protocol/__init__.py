"""x402 itself, pure: no I/O, no clock, no randomness, no httpx."""
