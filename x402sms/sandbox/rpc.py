"""JSON-RPC to a chain on this machine, blocking: called from worker threads only."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

_TIMEOUT = 30  # seconds


class RpcError(Exception):
    """The chain answered with an error, or with something that is no answer."""


class Rpc:
    def __init__(self, url: str) -> None:
        self.url = url
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._path = parts.path or "/"

    def call(self, method: str, *params: object) -> Any:
        """The `result` of one call; raises RpcError for an `error`, OSError if nobody answers."""
        request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)
        try:
            connection.request(
                "POST", self._path, request, headers={"Content-Type": "application/json"}
            )
            answer = json.loads(connection.getresponse().read())
        except (http.client.HTTPException, ValueError) as error:
            raise RpcError(f"{method}: unreadable answer") from error
        finally:
            connection.close()
        if not isinstance(answer, dict) or "result" not in answer:
            raise RpcError(f"{method}: {_message(answer)}")
        return answer["result"]

    def call_text(self, method: str, *params: object) -> str:
        result = self.call(method, *params)
        if not isinstance(result, str):
            raise RpcError(f"{method}: not a string")
        return result

    def call_int(self, method: str, *params: object) -> int:
        """A quantity or one ABI word, both hexadecimal."""
        try:
            return int(self.call_text(method, *params), 16)
        except ValueError as error:
            raise RpcError(f"{method}: not a number") from error

    def call_list(self, method: str, *params: object) -> list[str]:
        result = self.call(method, *params)
        if not isinstance(result, list) or not result:
            raise RpcError(f"{method}: an empty answer")
        return result


def _message(answer: object) -> str:
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)[:500]
