"""Between a ledger and its server: a network that loses what it is told to lose."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Fault = Literal["lose the question", "lose the answer", "never answer"]


@dataclass
class Network:
    """What happens to the first message that holds `trigger`; the rest goes through."""

    port: int
    trigger: bytes = b"pg_logical_emit_message"  # the message that commits a reservation
    fault: Fault | None = None
    connections: int = 0
    open: list[socket.socket] = field(default_factory=list)

    def url(self, database: str) -> str:
        return (
            f"postgresql://owner:its-password@127.0.0.1:{self.port}/{database}"
            "?sslmode=disable&gssencmode=disable"
        )


@contextmanager
def running_network(server: Path) -> Iterator[Network]:
    """A port on loopback that leads to the server's socket."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        network = Network(listening.getsockname()[1])
        accepting = threading.Thread(target=_accept, args=(network, listening, server))
        accepting.start()
        try:
            yield network
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join(30)
            for each in network.open:
                _cut(each)
                each.close()


def _accept(network: Network, listening: socket.socket, server: Path) -> None:
    pumps: list[threading.Thread] = []
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            break
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(str(server))
        network.connections += 1
        network.open += [client, upstream]
        deaf = threading.Event()
        for pump in (_questions, _answers):
            pumps.append(threading.Thread(target=pump, args=(network, client, upstream, deaf)))
            pumps[-1].start()
    for each in network.open:
        _cut(each)
    for thread in pumps:
        thread.join(30)


def _questions(
    network: Network, client: socket.socket, upstream: socket.socket, deaf: threading.Event
) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(65536):
            if network.fault is not None and network.trigger in data:
                if network.fault == "lose the question":
                    break
                deaf.set()
            upstream.sendall(data)
    _cut(upstream)
    _cut(client)


def _answers(
    network: Network, client: socket.socket, upstream: socket.socket, deaf: threading.Event
) -> None:
    with contextlib.suppress(OSError):
        while data := upstream.recv(65536):
            if not deaf.is_set():
                client.sendall(data)
            elif network.fault == "lose the answer":
                break
    _cut(client)


def _cut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
