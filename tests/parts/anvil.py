"""A local Ethereum node: Foundry's anvil, from npm, on a free loopback port."""

from __future__ import annotations

import http.client
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

NODE_MODULES: Final = Path(__file__).parents[2] / "node_modules"
START_DEADLINE_SECONDS: Final = 30

_LISTENING = re.compile(rb"Listening on 127\.0\.0\.1:(\d+)")
_SYSTEMS = {"linux": "linux", "darwin": "darwin"}
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

# anvil's own development accounts, from its default mnemonic; worth nothing anywhere.
DEPLOYER_KEY: Final = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
FACILITATOR_KEY: Final = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"


class PartMissing(RuntimeError):
    """A part that the tests need is not installed. Not a reason to skip them."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is missing: run `make parts` (npm), which installs the real parts that "
            "the tests run against"
        )


class RpcError(RuntimeError):
    """The node answered with a JSON-RPC error."""


@dataclass(frozen=True)
class Anvil:
    """A running node. Its chain lives in memory and ends with it."""

    port: int
    process: subprocess.Popen[bytes]

    @property
    def rpc_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, *params: object) -> Any:
        """One JSON-RPC call, anvil's own (`anvil_setCode`, `evm_mine`, ...) included."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if "error" in answer:
            raise RpcError(f"{method}: {answer['error']}")
        return answer["result"]

    def move_clock(self, seconds: int) -> None:
        """Mine a block that many seconds later. The wall clock knows nothing of it."""
        self.request("evm_increaseTime", seconds)
        self.request("evm_mine")


@contextmanager
def start_anvil(
    chain_id: int, *, extra_args: Sequence[str] = (), node_modules: Path = NODE_MODULES
) -> Iterator[Anvil]:
    """Run an anvil with that chain id until the block ends."""
    command = [
        str(anvil_binary(node_modules)),
        *("--chain-id", str(chain_id)),
        *("--host", "127.0.0.1"),
        *("--port", "0"),  # the system picks a free one, so no two test runs can collide
        *extra_args,
    ]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            anvil = Anvil(_wait_for_port(process, log), process)
            if int(anvil.request("eth_chainId"), 16) != chain_id:
                raise RuntimeError("anvil runs with another chain id than asked for")
            yield anvil
        finally:
            _end(process)


def anvil_binary(node_modules: Path = NODE_MODULES) -> Path:
    """The binary for this platform. Raises PartMissing."""
    system = _SYSTEMS.get(sys.platform, sys.platform)
    machine = _MACHINES.get(platform.machine().lower(), platform.machine().lower())
    binary = node_modules / "@foundry-rs" / f"anvil-{system}-{machine}" / "bin" / "anvil"
    if not binary.is_file():
        raise PartMissing(binary)
    return binary


def _wait_for_port(process: subprocess.Popen[bytes], log: IO[bytes]) -> int:
    """The port that anvil says it listens on; it says so once it does."""
    deadline = time.monotonic() + START_DEADLINE_SECONDS
    while time.monotonic() < deadline:
        output = os.pread(log.fileno(), 65536, 0)  # pread: anvil writes at the shared offset
        if match := _LISTENING.search(output):
            return int(match[1])
        if process.poll() is not None:
            raise RuntimeError(f"anvil ended at once: {output.decode(errors='replace')}")
        time.sleep(0.005)
    raise TimeoutError(f"anvil did not listen within {START_DEADLINE_SECONDS} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
