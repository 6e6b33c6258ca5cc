"""Real parts: a local chain, Circle's own USDC on it, and the official x402 server in front.

None of it knows x402sms, so that a mistake of ours cannot agree with itself.
"""
