"""VirtualSMS on loopback: resource server and facilitator, for tests and demonstrations."""

from __future__ import annotations

from x402sms.errors import ConfigError

try:
    from x402sms.sandbox.app import create_app
    from x402sms.sandbox.config import SandboxConfig
    from x402sms.sandbox.faults import FAULTS, WEBHOOK_FAULTS, Fault
    from x402sms.sandbox.inprocess import InProcessSandbox, asgi_sandbox
    from x402sms.sandbox.server import RunningSandbox, running_sandbox, serve
    from x402sms.sandbox.webhooks import Webhook
except ModuleNotFoundError as missing:
    if missing.name not in {"fastapi", "uvicorn", "starlette"}:
        raise
    raise ConfigError("the sandbox needs: pip install 'x402sms[sandbox]'") from missing

__all__ = [
    "FAULTS",
    "WEBHOOK_FAULTS",
    "Fault",
    "InProcessSandbox",
    "RunningSandbox",
    "SandboxConfig",
    "Webhook",
    "asgi_sandbox",
    "create_app",
    "running_sandbox",
    "serve",
]
