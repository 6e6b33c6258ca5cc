"""A listening socket of this machine, for the servers that x402sms starts."""

from __future__ import annotations

import socket

from x402sms.errors import ConfigError

LOOPBACK = "127.0.0.1"


def listener_on(host: str, port: int) -> socket.socket:
    """Bound, not yet listening; port 0 takes a free one. Raises ConfigError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
        )[0]
        # asyncio turns Nagle off only where the protocol is named: without it each answer, sent as
        # head and body, waits 40 ms for an acknowledgement.
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{host!r} is no address of this machine: {error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener
