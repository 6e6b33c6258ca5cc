"""The key is nowhere: a full run with every logger at DEBUG, failures included."""

from __future__ import annotations

import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.buyer import COLOURS, Colour
from tests.facade import facade
from x402sms import Client, Wallet
from x402sms.errors import NoCodeReceived, OrderNotFound, SpendLimitExceeded, X402SMSError
from x402sms.sandbox import RunningSandbox, SandboxConfig, running_sandbox
from x402sms.virtualsms.effects import Bought

KEY = "7f" * 31 + "a1"
# The key as hex in either case, as decimal, as bytes in a repr, and in base64.
FORMS = (
    KEY,
    KEY.upper(),
    str(int(KEY, 16)),
    repr(bytes.fromhex(KEY))[2:-1],
    "f39/f39/f39/",
)


@pytest.fixture
def every_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    known = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
    levels = {logger: logger.level for logger in (logging.root, *known)}
    for logger in levels:
        logger.setLevel(logging.DEBUG)
    with caplog.at_level(logging.DEBUG):
        yield caplog
    for logger, level in levels.items():
        logger.setLevel(level)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox(SandboxConfig()) as running:
        yield running


def a_full_run(sms: Any, sandbox: RunningSandbox, secret: Any) -> list[str]:
    """Buy, receive, fail in several ways. All that a user could print or store of it."""

    def deliver(event: Any) -> None:
        if isinstance(event, Bought):
            sandbox.deliver_sms(event.order.order_id, "Your code is 5521")

    shown = [repr(sms.receive_code("telegram", max_price="1", on_event=deliver))]
    failures: list[Exception] = []
    attempts: list[tuple[Callable[[], Any], type[Exception]]] = [
        (lambda: sms.orders.get("ord_0"), OrderNotFound),
        (lambda: sms.receive_code("telegram", max_price="0.01"), SpendLimitExceeded),
        (lambda: sms.receive_code("telegram", max_price="1", timeout=1), NoCodeReceived),
    ]
    for attempt, error in attempts:
        with pytest.raises(error) as caught:
            attempt()
        failures.append(caught.value)
    for failure in failures:
        whole = traceback.TracebackException.from_exception(failure, capture_locals=True)
        shown += [repr(failure), str(vars(failure)), "".join(whole.format())]
    shown += [repr(sms), str(vars(sms._target)), repr(secret), str(secret), f"{secret!s:>60}"]
    shown += [repr(sms.payments.list()), repr(sms.last_receipt), repr(sms.settings)]
    return shown


@pytest.mark.parametrize("colour", COLOURS)
def test_the_key_is_in_nothing_that_a_full_run_leaves(
    colour: Colour,
    sandbox: RunningSandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every_log: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("X402SMS_PRIVATE_KEY", "0x" + KEY)
    sandbox.fund(Wallet.from_key(KEY).address, 10)
    with facade(
        colour, network="base-sepolia", base_url=sandbox.url, ledger=str(tmp_path / "ledger.db")
    ) as sms:
        shown = a_full_run(sms, sandbox, sms.wallet)
        files = [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    files += [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    out, err = capfd.readouterr()
    logged = [record.getMessage() + str(vars(record)) for record in every_log.records]
    assert len(logged) > 50  # httpx and httpcore do log at DEBUG: there is something to look at
    for form in FORMS:
        for text in (*shown, *logged, out, err):
            assert form not in text
        for content in files:
            assert form.encode() not in content
            assert bytes.fromhex(KEY) not in content


@pytest.mark.parametrize("colour", COLOURS)
def test_an_api_key_is_in_nothing_that_a_full_run_leaves(
    colour: Colour,
    sandbox: RunningSandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    every_log: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Sent with every request, and nowhere else."""
    key = sandbox.api_key
    monkeypatch.setenv("X402SMS_API_KEY", key)
    with facade(colour, base_url=sandbox.url, ledger=str(tmp_path / "ledger.db")) as sms:
        shown = a_full_run(sms, sandbox, sms.api_key)
        shown += [repr(sms.books), repr(sms.ledger.charges.list()), repr(sms._http)]
        files = [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    files += [path.read_bytes() for path in tmp_path.iterdir() if path.is_file()]
    out, err = capfd.readouterr()
    logged = [record.getMessage() + str(vars(record)) for record in every_log.records]
    assert len(logged) > 50
    assert all(key not in text for text in (*shown, *logged, out, err))
    assert all(key.encode() not in content for content in files)


@pytest.mark.parametrize("key", [KEY[:-1], KEY + "00", "0x" + "00" * 32, "ff" * 32, KEY[:-1] + "g"])
def test_a_bad_key_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(Exception, match="not shown here on purpose") as caught:
        Wallet.from_key(key)
    whole = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in whole.stack if frame.filename.endswith("wallet.py")]
    assert ours
    assert all(key not in str(frame.locals) for frame in ours)
    assert key not in str(caught.value)


def test_a_wallet_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="stays in this process"):
        pickle.dumps(Wallet.generate())


@pytest.mark.parametrize(
    "setting",
    [
        {"X402SMS_MAX_PER_DAY": "abc"},
        {"X402SMS_NETWORK": "mainnet"},
        {"X402SMS_BASE_URL": "x"},
        {"X402SMS_LEDGER": "/dev/null/x.db"},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_a_setting_that_is_wrong_does_not_show_the_key(
    setting: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"X402SMS_PRIVATE_KEY": KEY, **setting}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(X402SMSError) as caught:
        Client()
    whole = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in whole.stack if "tests" not in frame.filename]
    assert ours
    assert all(KEY not in str(frame.locals) for frame in ours)


def test_the_key_of_an_rpc_is_not_in_the_repr_of_the_settings() -> None:
    with Client(
        Wallet.generate(), ledger=":memory:", rpc_url="https://rpc.example/v2/SECRET"
    ) as sms:
        assert "SECRET" not in repr(sms.settings)
