"""The service for agents: an MCP server on a client, its tools, and the two ways to serve it."""

from __future__ import annotations

from x402sms.errors import ConfigError

try:
    from x402sms.mcp_server.desk import Desk
    from x402sms.mcp_server.server import build_server
    from x402sms.mcp_server.serving import serve_http, serve_stdio
    from x402sms.mcp_server.telling import Describe, Told
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] not in {"mcp", "mcp_types", "starlette", "uvicorn"}:
        raise
    raise ConfigError("the MCP server needs: pip install 'x402sms[mcp]'") from missing

__all__ = ["Describe", "Desk", "Told", "build_server", "serve_http", "serve_stdio"]
