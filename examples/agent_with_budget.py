"""An agent with a budget: it gets codes for your sign-up tests until its limits say stop.

    X402SMS_KEYSTORE=... X402SMS_KEYSTORE_PASSWORD_FILE=... \\
        python examples/agent_with_budget.py telegram 0.20

It reaches the service as any agent does, over MCP: it starts `x402sms mcp` with a budget (the
second argument, USDC in all) that nothing it does can raise. Where your agent's model would decide
what to call next, a loop stands here. Needs `pip install 'x402sms[mcp]'`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from mcp import Client, StdioServerParameters

MOST_TESTS = 20


async def main(service: str, budget: str) -> int:
    settings = {name: text for name, text in os.environ.items() if name.startswith("X402SMS_")}
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "x402sms", "mcp"],
        env={**settings, "X402SMS_MAX_TOTAL": budget},
    )
    codes = 0
    async with Client(server) as agent:
        for test in range(1, MOST_TESTS + 1):
            code = await sign_up(agent, service, intent=f"sign-up-test-{test}")
            if code is None:
                break
            codes += 1
            print(f"code: {code}", flush=True)
        spent = (await agent.call_tool("spending")).structured_content
        print(f"{codes} codes, {spent['in_all']} of {budget} USDC spent")
    return 0 if codes else 1


async def sign_up(agent: Client, service: str, *, intent: str) -> str | None:
    """A number, then its code. None where the server says no, which it explains."""
    asked: dict[str, Any] = {"service": service, "max_price": "0.30", "intent": intent}
    while True:
        answer = await agent.call_tool("receive_code", asked)
        if answer.is_error:
            print(f"stopped: {answer.content[0].text}")  # type: ignore[union-attr]  # it is text
            return None
        job = answer.structured_content
        if job["status"] == "received":
            return str(job["code"] or job["text"])
        if "job_id" not in asked or job["status"] == "number_changed":
            print(f"enter this number: {job['phone_number']}", flush=True)
        asked = {"job_id": job["job_id"]}


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: agent_with_budget.py SERVICE BUDGET")
    sys.exit(asyncio.run(main(*sys.argv[1:])))
