"""The reader that the battery's verdict rests on: shown to give each of its three answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
from hostile_facilitator.hostile import CLEAN, RECONCILE_MODES  # type: ignore[import-untyped]

from tests.hostile.battery import facilitator
from tests.hostile.pay_once import PAY_TO, PRICE_ATOMIC
from tests.hostile.reconcile_reader import MOST_BYTES, ReconcileReader, transaction_of
from x402sms.protocol.types import OnChain, OnChainSettled, OnChainUnread, OnChainUnused

NONCE = bytes(range(32))
NAME = "0x" + NONCE.hex()
PAYER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


def look_up(url: str, transport: httpx.BaseTransport | None = None) -> OnChain:
    reader = ReconcileReader(
        url, pay_to=PAY_TO, amount_atomic=PRICE_ATOMIC, seconds=0.5, transport=transport
    )
    with closing(reader):
        return reader.look_up(PAYER, NONCE, signed_at=0)


def settle(url: str) -> None:
    httpx.post(f"{url}/settle", json={"nonce": NAME}, trust_env=False, timeout=5)


def answering(body: bytes, status: int = 200, kind: str = "application/json") -> OnChain:
    headers = {"Content-Type": kind, "Content-Length": str(len(body))}
    answer = httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))
    return look_up("http://127.0.0.1", httpx.MockTransport(lambda _: answer))


def test_a_payment_is_unused_until_it_settles_and_then_settled() -> None:
    with facilitator(CLEAN) as (url, _):
        assert isinstance(look_up(url), OnChainUnused)
        settle(url)
        assert look_up(url) == OnChainSettled(transaction_of(NAME), PAY_TO, PRICE_ATOMIC)


@pytest.mark.parametrize("mode", RECONCILE_MODES)
def test_a_read_that_fails_is_neither_before_nor_after(mode: str) -> None:
    with facilitator(mode) as (url, _):
        assert isinstance(look_up(url), OnChainUnread)
        settle(url)
        assert isinstance(look_up(url), OnChainUnread)


def test_nobody_there_is_neither() -> None:
    with facilitator(CLEAN) as (url, _):
        pass
    assert isinstance(look_up(url), OnChainUnread)


def record(found: bytes, nonce: str = NAME) -> bytes:
    return b'{"found": %s, "nonce": "%s"}' % (found, nonce.encode())


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"false", id="no object"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"found": false}', id="of no nonce"),
        pytest.param(b'{"found": false, "nonce": null}', id="of the nonce null"),
        pytest.param(record(b"false", "0x" + "00" * 32), id="of another nonce"),
        pytest.param(record(b"null"), id="null"),
        pytest.param(record(b"0"), id="a number"),
        pytest.param(record(b'"false"'), id="a string"),
        pytest.param(record(b'true, "found": false'), id="yes and no"),
        pytest.param(record(b'false, "error": "timeout"'), id="with an error"),
        pytest.param(record(b"false") + b" {}", id="with more behind it"),
        pytest.param(record(b"false") + b"\xff", id="not ASCII"),
        pytest.param(record(b"false") + b" " * MOST_BYTES, id="too large"),
        pytest.param(record(b"false")[:-1], id="cut short"),
    ],
)
def test_whatever_is_not_the_record_to_the_letter_is_neither(body: bytes) -> None:
    assert isinstance(answering(body), OnChainUnread)


def test_the_records_themselves_are_answers() -> None:
    assert isinstance(answering(record(b"false")), OnChainUnused)
    assert isinstance(answering(record(b"true")), OnChainSettled)


def test_a_record_in_an_answer_of_another_kind_is_neither() -> None:
    assert isinstance(answering(record(b"false"), status=203), OnChainUnread)
    assert isinstance(answering(record(b"false"), status=404), OnChainUnread)
    assert isinstance(answering(record(b"false"), kind="text/html"), OnChainUnread)


class Dripping(httpx.SyncByteStream):
    """A record that never ends, each piece well within a read's own time-out."""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            time.sleep(0.1)
            yield b" "


def test_a_read_that_never_ends_is_given_up() -> None:
    headers = {"Content-Type": "application/json", "Content-Length": str(MOST_BYTES)}
    endless = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, stream=Dripping()))
    began = time.monotonic()
    assert isinstance(look_up("http://127.0.0.1", endless), OnChainUnread)
    assert time.monotonic() - began < 5
