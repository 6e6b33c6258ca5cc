"""A chain reader that asks the battery's own `/reconcile` whether a payment landed.

Three values and no fourth: settled, unused, could not read. Whatever is not, to the letter, the
answer to the question that was asked is the third.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any, Final

import httpx

from x402sms.protocol import strict_json
from x402sms.protocol.types import OnChain, OnChainSettled, OnChainUnread, OnChainUnused

MOST_BYTES: Final = 1024
_OK: Final = 200
_JSON: Final = "application/json"


class NotAnAnswer(Exception):
    """What came back says neither that the payment landed nor that it did not."""


class ReconcileReader:
    """What `X402Transport(chain=...)` asks. `seconds` bounds one whole look-up.

    `/reconcile` knows nonces only, so a settled one is given the recipient and the amount that
    the one seller asks of everyone.
    """

    def __init__(
        self,
        facilitator_url: str,
        *,
        pay_to: str,
        amount_atomic: int,
        seconds: float = 2,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = f"{facilitator_url}/reconcile"
        self._pay_to = pay_to
        self._amount_atomic = amount_atomic
        self._seconds = seconds
        self._http = httpx.Client(
            timeout=seconds, trust_env=False, follow_redirects=False, transport=transport
        )

    def look_up(
        self,
        payer: str,
        nonce: bytes,
        *,
        signed_at: int,
        transaction: str | None = None,
    ) -> OnChain:
        asked = "0x" + nonce.hex()
        try:
            found = _found(self._read(asked), asked)
        except (httpx.HTTPError, NotAnAnswer, ValueError) as error:
            return OnChainUnread(f"{type(error).__name__}: {error}")
        if not found:
            return OnChainUnused(chain_time=int(time.time()))
        return OnChainSettled(transaction_of(asked), self._pay_to, self._amount_atomic)

    def close(self) -> None:
        self._http.close()

    def _read(self, asked: str) -> str:
        deadline = time.monotonic() + self._seconds
        body = b""
        with self._http.stream("GET", self._url, params={"nonce": asked}) as response:
            if response.status_code != _OK:
                raise NotAnAnswer(f"status {response.status_code}")
            kind = response.headers.get("content-type")
            if kind != _JSON:
                raise NotAnAnswer(f"content of the type {kind}")
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise NotAnAnswer(f"more than {MOST_BYTES} bytes")
                if time.monotonic() > deadline:
                    raise NotAnAnswer(f"not read within {self._seconds} s")
            _check_length(response.headers.get("content-length"), body)
        return body.decode("ascii")


def transaction_of(nonce: str) -> str:
    """The battery's own name for the transaction in which a nonce settled."""
    return "0x" + hashlib.sha256(nonce.encode()).hexdigest()


def _check_length(promised: str | None, body: bytes) -> None:
    if promised != str(len(body)):
        raise NotAnAnswer(f"{promised} bytes promised, {len(body)} came")


def _found(text: str, asked: str) -> bool:
    record: Any = strict_json.loads(text)
    if not isinstance(record, dict) or record.keys() != {"found", "nonce"}:
        raise NotAnAnswer("not the record of a payment")
    if record["nonce"] != asked:
        raise NotAnAnswer("the record of another payment")
    found = record["found"]
    if not isinstance(found, bool):
        raise NotAnAnswer("a record that says neither yes nor no")
    return found
