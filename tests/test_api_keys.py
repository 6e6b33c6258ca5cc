"""API keys: shown to nobody, never overwritten, kept where only their owner can read them."""

from __future__ import annotations

import copy
import pickle
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError

from x402sms import AsyncClient, Client, Wallet, api_keys
from x402sms.api_keys import ApiKey, keys_path, load_key, store_key
from x402sms.errors import ConfigError

URL = "https://virtualsms.io/api/v2"
TEXT = "sk_live_0123456789abcdef"
KEY = ApiKey(TEXT)
OTHER = ApiKey("sk_live_another_one")


class _InMemory(KeyringBackend):
    """A keyring that works."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # keyring types half of itself
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password


class _Forgetful(_InMemory):
    """One that takes everything and keeps nothing."""

    def set_password(self, service: str, username: str, password: str) -> None:
        pass


class _Odd(_InMemory):
    """One that fails in a way of its own."""

    def set_password(self, service: str, username: str, password: str) -> None:
        raise RuntimeError(password)


class _Slow(_InMemory):
    """One whose readers wait a moment for each other."""

    def __init__(self) -> None:
        super().__init__()
        self.read = Barrier(2)

    def get_password(self, service: str, username: str) -> str | None:
        text = super().get_password(service, username)
        with suppress(BrokenBarrierError):
            self.read.wait(0.1)
        return text


class _Locked(_InMemory):
    """One that nobody unlocks."""

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringError("locked")


@pytest.fixture
def working_keyring() -> Iterator[_InMemory]:
    yield from _installed(_InMemory())


def _installed(backend: Any) -> Iterator[Any]:
    before = keyring.get_keyring()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


@pytest.mark.parametrize(
    "show", [repr, str, lambda key: f"{key!s} {key!r}", lambda key: repr({"key": key})]
)
def test_a_key_shows_itself_to_nobody(show: Any) -> None:
    assert TEXT not in show(KEY)
    assert not hasattr(KEY, "__dict__")


@pytest.mark.parametrize("carry", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_key_is_not_carried_elsewhere(carry: Any) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        carry(KEY)


@pytest.mark.parametrize(
    "text",
    ["", "short", "sk_live_with a space", "sk_live_\r\nX-Evil: 1", "sk_ключ_ключ", "s" * 201, None],
    ids=["empty", "short", "space", "header", "not ascii", "long", "none"],
)
def test_what_cannot_be_a_key_is_refused_unseen(text: Any) -> None:
    with pytest.raises(ConfigError, match="it is not shown") as caught:
        ApiKey(text)

    assert not text or text not in str(caught.value)


def test_the_same_key_is_the_same_account_and_another_is_not() -> None:
    assert ApiKey(f" {TEXT}\n") == KEY
    assert hash(ApiKey(TEXT)) == hash(KEY)
    assert KEY != OTHER
    assert KEY != TEXT
    assert KEY.account == ApiKey(TEXT).account != OTHER.account
    assert TEXT not in KEY.account


def test_without_a_keyring_it_is_in_a_file_of_its_owner() -> None:
    assert store_key(URL, KEY) == str(keys_path())

    assert load_key(URL) == KEY
    assert stat.S_IMODE(keys_path().stat().st_mode) == 0o600
    assert stat.S_IMODE(keys_path().parent.stat().st_mode) == 0o700


def test_a_key_is_of_its_host() -> None:
    store_key(URL, KEY)
    store_key("http://127.0.0.1:8402/api/v2", OTHER)

    assert load_key("https://VIRTUALSMS.io/elsewhere") == KEY
    assert load_key("http://127.0.0.1:8402") == OTHER
    assert load_key("https://other.example") is None


def test_a_second_key_does_not_cost_the_first() -> None:
    for key in (KEY, OTHER, KEY, OTHER):
        store_key(URL, key)

    assert load_key(URL) == OTHER
    assert TEXT in keys_path().read_text()
    assert len(keys_path().read_text().splitlines()) == 2


def test_keys_that_come_at_once_are_all_kept() -> None:
    keys = [ApiKey(f"sk_live_number_{number:04}") for number in range(32)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store_key(URL, key), keys))

    assert {line.split()[1] for line in keys_path().read_text().splitlines()} == {
        key.reveal() for key in keys
    }


def test_a_file_that_others_could_read_is_closed_to_them() -> None:
    keys_path().parent.mkdir(parents=True)
    keys_path().write_text("")
    keys_path().chmod(0o644)

    store_key(URL, KEY)

    assert stat.S_IMODE(keys_path().stat().st_mode) == 0o600


def test_lines_that_mean_nothing_are_passed_over() -> None:
    store_key(URL, KEY)
    with keys_path().open("a") as file:
        file.write("\nvirtualsms.io\nvirtualsms.io a b c\n")

    assert load_key(URL) == KEY


def test_a_line_that_was_cut_short_does_not_cost_the_next_key() -> None:
    store_key(URL, KEY)
    with keys_path().open("a") as file:
        file.write("virtualsms.io")

    store_key(URL, OTHER)

    assert load_key(URL) == OTHER


def test_a_host_may_have_any_letters() -> None:
    store_key("https://bücher.example/api/v2", KEY)

    assert load_key("https://bücher.example/api/v2") == KEY


def test_a_store_that_cannot_be_read_or_written_is_said(tmp_path: Path) -> None:
    keys_path().parent.mkdir(parents=True)
    keys_path().write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_key(URL)
    keys_path().unlink()
    keys_path().mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        store_key(URL, KEY)


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("x402sms.api_keys.os.write", full)
    with pytest.raises(ConfigError, match="No space left"):
        store_key(URL, KEY)


def test_a_disk_that_is_full_in_the_middle_of_a_key_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("x402sms.api_keys.os.write", lambda handle, row: len(row) - 1)
    with pytest.raises(ConfigError, match="No space left"):
        store_key(URL, KEY)


def test_a_keyring_that_works_has_it(working_keyring: _InMemory) -> None:
    for key in (KEY, OTHER, OTHER):
        assert store_key(URL, key) == "the system's keyring"

    assert load_key(URL) == OTHER
    assert working_keyring.kept == {
        ("x402sms", "virtualsms.io"): f"{KEY.reveal()} {OTHER.reveal()}"
    }
    assert not keys_path().exists()


@pytest.mark.parametrize("backend", [_Forgetful, _Locked, _Odd])
def test_a_keyring_that_fails_is_not_trusted(backend: Any) -> None:
    for _ in _installed(backend()):
        assert store_key(URL, KEY) == str(keys_path())
        assert load_key(URL) == KEY


def test_keys_that_come_at_once_are_all_in_the_keyring() -> None:
    for backend in _installed(_Slow()):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda key: store_key(URL, key), (KEY, OTHER)))

        assert {TEXT, OTHER.reveal()} == set(backend.kept["x402sms", "virtualsms.io"].split())


def test_without_the_package_there_is_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_keys, "find_spec", lambda name: None)

    assert store_key(URL, KEY) == str(keys_path())
    assert load_key(URL) == KEY


# What a client runs with: arguments, then the environment's wallet, its key, the stored key.
PRIVATE = Wallet.generate()


@pytest.mark.parametrize(
    ("given", "environment", "stored", "road", "key"),
    [
        ({"api_key": TEXT}, {}, False, "rest", TEXT),
        ({"api_key": KEY}, {"X402SMS_PRIVATE_KEY": "0x" + "11" * 32}, False, "rest", TEXT),
        ({"api_key": TEXT}, {"X402SMS_API_KEY": OTHER.reveal()}, True, "rest", TEXT),
        ({"wallet": PRIVATE}, {"X402SMS_API_KEY": "bad"}, True, "x402", None),
        ({"wallet": PRIVATE, "api_key": TEXT}, {}, False, "x402", TEXT),
        ({}, {"X402SMS_PRIVATE_KEY": "0x" + "11" * 32}, True, "x402", None),
        (
            {},
            {"X402SMS_PRIVATE_KEY": "0x" + "11" * 32, "X402SMS_API_KEY": TEXT},
            False,
            "x402",
            None,
        ),
        ({}, {"X402SMS_API_KEY": TEXT}, True, "rest", TEXT),
        ({}, {}, True, "rest", OTHER.reveal()),
    ],
    ids=[
        "a key",
        "a key before the environment's wallet",
        "a key before the environment's",
        "a wallet before the environment's key",
        "a wallet and a key",
        "the environment's wallet",
        "both in the environment",
        "the environment's key before the stored one",
        "the stored key",
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_who_pays_is_decided_in_this_order(
    kind: Any,
    given: dict[str, Any],
    environment: dict[str, str],
    stored: bool,
    road: str,
    key: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if stored:
        store_key(URL, OTHER)

    client = kind(ledger=":memory:", **given)

    assert (client.books is None) == (road == "x402")
    assert (None if client.api_key is None else client.api_key.reveal()) == key
    hosts = {"x402": "https://x402.virtualsms.io/api/v2", "rest": URL}
    assert client.settings.base_url == hosts[road]
    client.ledger.close()


def test_with_nothing_at_all_it_says_what_there_could_be() -> None:
    with pytest.raises(ConfigError, match=r"no wallet: set .*X402SMS_API_KEY"):
        Client()


def test_an_api_key_is_not_sent_in_the_clear() -> None:
    with pytest.raises(ConfigError, match="https only"):
        Client(api_key=TEXT, base_url="http://shop.example/api", ledger=":memory:")
