"""The chain, read: against a real node, and against RPCs that are down, slow, wrong or hostile."""

from __future__ import annotations

import logging
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from eth_abi.abi import encode

from tests.parts.anvil import start_anvil
from tests.parts.fixtures import LocalChain
from tests.parts.rpc import answers, rpc
from x402sms.chain import Chain, ChainUnreadable
from x402sms.errors import ConfigError
from x402sms.protocol.networks import BASE, BASE_SEPOLIA

SOMEBODY = "0x00000000000000000000000000000000000000A1"
NONCE = bytes(range(32))
SECRET = "k3y-of-somebody"

Reading = Callable[[Chain], object]
READINGS: dict[str, Reading] = {
    "chain_id": lambda chain: chain.chain_id(),
    "head": lambda chain: chain.head(),
    "now": lambda chain: chain.now(),
    "balance": lambda chain: chain.balance(SOMEBODY),
    "authorization_state": lambda chain: chain.authorization_state(SOMEBODY, NONCE),
    "domain_separator": lambda chain: chain.domain_separator(),
}
every_reading = pytest.mark.parametrize("read", READINGS.values(), ids=READINGS.keys())


@pytest.fixture
def chain(base_chain: LocalChain) -> Iterator[Chain]:
    with Chain(base_chain.rpc_url, BASE) as chain:
        yield chain


# The real node


def test_the_balance_is_in_atomic_units(chain: Chain, base_chain: LocalChain) -> None:
    account = base_chain.funded_account(1_234_567)
    assert chain.balance(account.address) == 1_234_567
    assert chain.balance(account.address.lower()) == 1_234_567


def test_a_nonce_is_unused_until_its_authorization_settles(
    chain: Chain, base_chain: LocalChain
) -> None:
    payer = base_chain.funded_account(10)
    authorization = base_chain.usdc.sign(payer, to=SOMEBODY, amount_atomic=10)
    nonce, nonce_hex = authorization.nonce, "0x" + authorization.nonce.hex()

    assert chain.authorization_state(payer.address, nonce) is False
    before = chain.head().number
    base_chain.usdc.relay(authorization)

    assert chain.authorization_state(payer.address, nonce) is True
    assert chain.authorization_state(payer.address, nonce_hex) is True
    assert chain.authorization_state(payer.address, nonce, block=before) is False
    assert chain.authorization_state(SOMEBODY, nonce) is False


def test_a_block_that_the_node_does_not_have_is_not_an_unused_nonce(chain: Chain) -> None:
    with pytest.raises(ChainUnreadable):
        chain.authorization_state(SOMEBODY, NONCE, block=chain.head().number + 1000)


def test_a_nonce_that_is_not_32_bytes_is_the_callers_mistake(chain: Chain) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        chain.authorization_state(SOMEBODY, "0x01")


def test_the_contract_agrees_with_our_domain(chain: Chain) -> None:
    assert chain.domain_separator() == BASE.domain_separator


def test_the_time_is_the_chains_not_this_machines(own_chain: LocalChain) -> None:
    with Chain(own_chain.rpc_url, BASE) as chain:
        before = chain.now()
        own_chain.anvil.move_clock(7200)
        assert chain.now() >= before + 7200
        assert chain.head().timestamp == own_chain.now


def test_the_chain_id_is_asked_for_once() -> None:
    with rpc(answers(eth_call="0x" + "00" * 32)) as server, Chain(server.url, BASE) as chain:
        for _ in range(3):
            chain.balance(SOMEBODY)
    assert server.methods == ["eth_chainId", "eth_call", "eth_call", "eth_call"]


# The wrong node


@every_reading
def test_an_rpc_on_another_chain_is_a_wrong_setting(base_chain: LocalChain, read: Reading) -> None:
    with Chain(base_chain.rpc_url, BASE_SEPOLIA) as chain:
        for _ in range(2):  # the second time is no less wrong
            with pytest.raises(ConfigError, match=r"chain 8453, but base-sepolia is chain 84532"):
                read(chain)


def test_a_chain_without_usdc_has_no_balance_of_zero() -> None:
    with (
        start_anvil(8453) as anvil,
        Chain(anvil.rpc_url, BASE) as chain,
        pytest.raises(ChainUnreadable, match=f"no USDC contract answers at {BASE.usdc}"),
    ):
        chain.balance(SOMEBODY)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nothing",
        "ftp://host/k3y-of-somebody",
        "http://",
        "http://[k3y-of-somebody",
        "https://host:k3y-of-somebody/",
    ],
)
def test_what_is_no_http_url_is_a_wrong_setting(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Chain(url, BASE)
    assert_tells_no_secret(caught.value)


# No answer is not an answer


@every_reading
def test_an_unreachable_rpc_is_unreadable(closed_port: int, read: Reading) -> None:
    with (
        Chain(f"http://127.0.0.1:{closed_port}", BASE) as chain,
        pytest.raises(ChainUnreadable, match=f"from http://127.0.0.1:{closed_port}: the connect"),
    ):
        read(chain)


def test_a_silent_rpc_is_unreadable_when_the_time_is_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Chain(url, BASE, timeout=0.1) as chain,
            pytest.raises(ChainUnreadable, match=r"no answer within 0\.1 s"),
        ):
            chain.now()


def test_an_rpc_that_answers_byte_by_byte_does_not_hold_us_for_long() -> None:
    with (
        dripping_rpc() as url,
        Chain(url, BASE, timeout=0.2) as chain,
        pytest.raises(ChainUnreadable, match=r"no answer within 0\.2 s"),
    ):
        chain.now()


NONSENSE = {
    "nothing": "",
    "html": "<html>It works!</html>",
    "a JSON string": '"0x2105"',
    "an empty object": "{}",
    "an empty list": "[]",
    "no result": '{"jsonrpc": "2.0", "id": 0}',
    "null": '{"jsonrpc": "2.0", "id": 0, "result": null}',
    "true": '{"jsonrpc": "2.0", "id": 0, "result": true}',
    "a float": '{"jsonrpc": "2.0", "id": 0, "result": 8453.0}',
    "empty hex": '{"jsonrpc": "2.0", "id": 0, "result": "0x"}',
    "no hex": '{"jsonrpc": "2.0", "id": 0, "result": "USDC"}',
    "an object": '{"jsonrpc": "2.0", "id": 0, "result": {"number": "0x1", "timestamp": "soon"}}',
    "an error": '{"jsonrpc": "2.0", "id": 0, "error": {"code": -32005, "message": "too many"}}',
    "a bad error": '{"jsonrpc": "2.0", "id": 0, "error": "no"}',
    "a half": '{"jsonrpc": "2.0", "id": 0, "result": "0x21',
    "no UTF-8": "\udcff\udcfe",
}


@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE.keys())
@every_reading
def test_an_rpc_that_talks_nonsense_is_unreadable(read: Reading, body: str) -> None:
    raw = body.encode(errors="surrogateescape")
    with (
        rpc(lambda _: (200, raw)) as server,
        Chain(server.url, BASE) as chain,
        pytest.raises(ChainUnreadable),
    ):
        read(chain)


@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE.keys())
@every_reading
def test_nonsense_after_the_right_chain_id_is_unreadable(read: Reading, body: str) -> None:
    raw = body.encode(errors="surrogateescape")

    def right_only_at_first(request: dict[str, Any]) -> tuple[int, bytes]:
        return answers()(request) if len(server.methods) == 1 else (200, raw)

    with rpc(right_only_at_first) as server, Chain(server.url, BASE) as chain:
        assert chain.chain_id() == 8453
        with pytest.raises(ChainUnreadable):
            read(chain)


@pytest.mark.parametrize("word", ["0x" + "00" * 31, "0x" + "00" * 31 + "02", "0x" + "ff" * 32])
def test_what_is_no_boolean_is_neither_used_nor_unused(word: str) -> None:
    with (
        rpc(answers(eth_call=word)) as server,
        Chain(server.url, BASE) as chain,
        pytest.raises(ChainUnreadable),
    ):
        chain.authorization_state(SOMEBODY, NONCE)


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_an_http_error_is_named_and_not_retried(status: int) -> None:
    with (
        rpc(lambda _: (status, b"no")) as server,
        Chain(server.url, BASE) as chain,
        pytest.raises(ChainUnreadable, match=f"it answered HTTP {status}"),
    ):
        chain.now()
    assert len(server.methods) == 1


def test_a_redirect_is_not_followed(base_chain: LocalChain) -> None:
    with (
        rpc(lambda _: (307, b""), location=base_chain.rpc_url) as server,
        Chain(server.url, BASE) as chain,
        pytest.raises(ChainUnreadable),
    ):
        chain.now()


def test_an_rpc_cannot_send_us_to_an_address_of_its_choice() -> None:
    with rpc(lambda _: (200, b"{}")) as elsewhere:
        # EIP-3668: a call may revert with URLs to ask instead.
        lookup = (
            "0x556f1830"
            + encode(
                ["address", "string[]", "bytes", "bytes4", "bytes"],
                [BASE.usdc, [elsewhere.url], b"", b"\0" * 4, b""],
            ).hex()
        )
        revert = {"code": 3, "message": "execution reverted", "data": lookup}
        with (
            rpc(answers(eth_call=revert)) as server,
            Chain(server.url, BASE) as chain,
            pytest.raises(ChainUnreadable, match="reverted"),
        ):
            chain.balance(SOMEBODY)
        assert server.methods == ["eth_chainId", "eth_call"]
    assert elsewhere.methods == []


# The URL's key


SECRET_URLS = {
    "path": f"http://127.0.0.1:{{}}/v2/{SECRET}",
    "query": f"http://127.0.0.1:{{}}/?key={SECRET}",
    "password": f"http://user:{SECRET}@127.0.0.1:{{}}",
}


@pytest.mark.parametrize("url", SECRET_URLS.values(), ids=SECRET_URLS.keys())
@pytest.mark.parametrize("failure", ["unreachable", "silent", "refusing", "quoting", "other chain"])
def test_the_key_in_an_rpc_url_is_shown_nowhere(
    url: str, failure: str, closed_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with (
        failing_rpc(failure, closed_port) as port,
        Chain(url.format(port), BASE, timeout=0.1) as chain,
    ):
        with pytest.raises((ChainUnreadable, ConfigError)) as caught:
            chain.balance(SOMEBODY)
        assert SECRET not in repr(chain)
    assert f"http://127.0.0.1:{port}" in str(caught.value)
    assert_tells_no_secret(caught.value)
    assert SECRET not in caplog.text


def assert_tells_no_secret(error: BaseException) -> None:
    assert SECRET not in "".join(traceback.format_exception(error))
    assert SECRET not in repr(error.__context__)
    assert SECRET not in repr(error.__cause__)


@contextmanager
def failing_rpc(failure: str, closed_port: int) -> Iterator[int]:
    if failure == "unreachable":
        yield closed_port
    elif failure == "silent":
        with socket.create_server(("127.0.0.1", 0)) as silent:
            yield silent.getsockname()[1]
    else:
        quoting = {"code": -32000, "message": f"no such project: {SECRET}"}
        replies = {
            "refusing": lambda _: (403, SECRET.encode()),
            "quoting": answers(eth_call=quoting),
            "other chain": answers(eth_chainId="0x1"),
        }
        with rpc(replies[failure]) as server:
            yield server.port


# An RPC that never ends


@contextmanager
def dripping_rpc() -> Iterator[str]:
    """Answers at once, but never comes to the end of it."""
    stop = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):  # which is the client hanging up
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            for _ in range(300):
                connection.sendall(b" ")
                if stop.wait(0.01):
                    break

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken but does not listen, so that connecting is refused for sure."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
