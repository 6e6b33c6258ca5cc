from __future__ import annotations

import copy
import hashlib
import inspect
import json
import os
import pickle
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import coincurve
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from hypothesis import given, settings
from hypothesis import strategies as st

from x402sms.errors import ConfigError, SigningFailed
from x402sms.protocol.eip3009 import Authorization
from x402sms.protocol.keccak import keccak256
from x402sms.protocol.networks import BASE
from x402sms.wallet import (
    ENV_KEY,
    ENV_KEYSTORE,
    ENV_PASSWORD,
    ENV_PASSWORD_FILE,
    Signer,
    Wallet,
    sign,
)

ROOT = Path(__file__).parents[1]
SECRET = bytes.fromhex("c0ffee254729296a45a3885639ac7e10f9d54979c0ffee254729296a45a3885a")
KEY = "0x" + SECRET.hex()
ADDRESS: str = Account.from_key(KEY).address
PASSWORD = "correct-horse-battery-staple"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
NOT_OURS = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"

NO_KEYS: dict[str, Any] = {
    "a digit short": KEY[:-1],
    "a digit long": KEY + "0",
    "a letter that is no digit": KEY[:-1] + "g",
    "a space within": KEY[:30] + " " + KEY[30:],
    "0x twice": "0x" + KEY,
    "0X": "0X" + KEY[2:],
    "full-width digit": KEY[:-1] + "\uff11",
    "the curve's order": f"{ORDER:064x}",
    "all ones": "f" * 64,
    "zero": "0" * 64,
    "empty": "",
    "words": "test test test test test test test test test test test junk",
    "bytes": SECRET,
    "an int": int.from_bytes(SECRET),
    "None": None,
}


@pytest.fixture
def wallet() -> Wallet:
    return Wallet.from_key(KEY)


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written once: scrypt takes a second on purpose."""
    path = tmp_path_factory.mktemp("keys") / "new" / "wallet.json"
    old = os.umask(0)
    try:
        Wallet.from_key(KEY).save_keystore(path, PASSWORD)
    finally:
        os.umask(old)
    return path


def quick_keystore(path: Path, **changes: Any) -> Path:
    """As eth_account writes it, with a key derivation of one round."""
    content = Account.encrypt(SECRET, PASSWORD, kdf="pbkdf2", iterations=1)
    content["crypto"].update(changes.pop("crypto", {}))
    path.write_text(json.dumps(content | changes))
    return path


# --- the key is nowhere


def spellings(secret: Any) -> Iterator[str]:
    """What a key looks like where it is shown."""
    if isinstance(secret, str):
        yield secret.removeprefix("0x")
        return
    raw = secret if isinstance(secret, bytes) else secret.to_bytes(32)
    yield from (raw.hex(), str(int.from_bytes(raw)), repr(raw)[2:-1], str(list(raw))[1:-1])


def assert_hides(shown: str, secret: Any) -> None:
    for spelling in spellings(secret):
        if spelling:
            assert spelling.lower() not in shown.lower()


def shown_by(error: BaseException) -> str:
    """All that a traceback with locals tells: of our frames and those below, and of what led to
    it. (A frame of the caller's has what the caller has.)"""
    told = [repr(error), str(error), repr(error.args), repr(vars(error))]
    frames = [
        frame
        for frame in traceback.walk_tb(error.__traceback__)
        if frame[0].f_globals is not globals()
    ]
    stack = traceback.StackSummary.extract(iter(frames), capture_locals=True)
    told += [f"{frame.name}: {frame.locals}" for frame in stack]
    told += [shown_by(each) for each in (error.__cause__, error.__context__) if each is not None]
    return "\n".join(told)


def failure_of(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except Exception as error:  # noqa: BLE001  whatever it is, it is looked at
        return error
    return None


def test_the_key_shows_nowhere_in_a_wallet(wallet: Wallet) -> None:
    shown = [repr(wallet), str(wallet), f"{wallet}", f"{wallet!r:>80}", repr([wallet])]
    shown += [repr(getattr(wallet, name)) for name in dir(wallet)]
    shown += [repr(inspect.getmembers(wallet)), repr(wallet.__getstate__())]
    for each in shown:
        assert_hides(each, SECRET)
    assert repr(wallet) == f"Wallet({ADDRESS})"
    with pytest.raises(TypeError):
        vars(wallet)
    assert not hasattr(wallet, "__dict__")


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, pickle.dumps, lambda each: pickle.dumps(each, 0)]
)
def test_a_wallet_is_not_copied_or_pickled(
    wallet: Wallet, duplicate: Callable[[Wallet], object]
) -> None:
    with pytest.raises(TypeError, match="not pickled or copied") as caught:
        duplicate(wallet)
    assert_hides(shown_by(caught.value), SECRET)


@pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS.keys())
def test_what_is_no_key_is_not_shown_either(key: Any) -> None:
    with pytest.raises(ConfigError, match="not shown here on purpose") as caught:
        Wallet.from_key(key)
    if key is not None:
        assert_hides(shown_by(caught.value), key)


@pytest.mark.parametrize(
    "key", [KEY[:-1], KEY[:-1] + "g", f"{ORDER:064x}"], ids=["short", "no digit", "out of range"]
)
def test_a_bad_key_in_the_environment_is_not_shown(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_KEY, key)
    with pytest.raises(ConfigError) as caught:
        Wallet.from_env()
    assert_hides(shown_by(caught.value), key)


def test_a_good_key_beside_a_keystore_in_the_environment_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(ENV_KEY, KEY)
    monkeypatch.setenv(ENV_KEYSTORE, "wallet.json")
    with pytest.raises(ConfigError, match="which wallet is meant") as caught:
        Wallet.from_env()
    assert_hides(shown_by(caught.value), SECRET)


def test_a_failure_within_a_wallet_does_not_show_the_key(wallet: Wallet, tmp_path: Path) -> None:
    (tmp_path / "wallet.json").write_text("x")
    failures: list[Callable[[], object]] = [
        lambda: wallet.sign_digest(b"too short"),
        lambda: wallet.sign_typed_data({}, {}, {}),
        lambda: wallet.save_keystore(tmp_path / "wallet.json", PASSWORD),
        lambda: wallet.save_keystore(tmp_path, ""),
    ]
    for failure in failures:
        error = failure_of(failure)
        assert error is not None
        assert_hides(shown_by(error), SECRET)


def test_a_password_is_not_shown_by_a_keystore_that_does_not_open(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Wallet.from_keystore(tmp_path / "none.json", PASSWORD)
    assert PASSWORD not in shown_by(caught.value)
    path = quick_keystore(tmp_path / "wallet.json", crypto={"mac": "00" * 32})
    with pytest.raises(ConfigError) as caught:
        Wallet.from_keystore(path, PASSWORD)
    assert PASSWORD not in shown_by(caught.value)


def test_a_password_is_not_shown_by_a_keystore_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "wallet.json").write_text("x")
    with pytest.raises(ConfigError) as caught:
        Wallet.from_key(KEY).save_keystore(tmp_path / "wallet.json", PASSWORD)
    assert PASSWORD not in shown_by(caught.value)


# --- keys


@pytest.mark.parametrize("key", [KEY, KEY[2:], KEY.upper().replace("0X", "0x"), f" {KEY}\n"])
def test_a_key_is_32_bytes_in_hex(key: str) -> None:
    assert Wallet.from_key(key).address == ADDRESS


@settings(max_examples=50, deadline=None)
@given(st.integers(1, ORDER - 1))
def test_the_address_is_eth_accounts(secret: int) -> None:
    key = f"{secret:064x}"
    assert Wallet.from_key(key).address == Account.from_key(key).address


def test_each_new_wallet_is_another() -> None:
    assert len({Wallet.generate().address for _ in range(5)}) == 5


def test_a_draw_that_is_no_key_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([bytes(32), b"\xff" * 32, SECRET])
    monkeypatch.setattr("secrets.token_bytes", lambda _: next(draws))
    assert Wallet.generate().address == ADDRESS


# --- keystores


def test_a_keystore_is_for_its_owner_only(keystore: Path) -> None:
    assert stat.S_IMODE(keystore.stat().st_mode) == 0o600
    assert stat.S_IMODE(keystore.parent.stat().st_mode) == 0o700


def test_eth_account_reads_our_keystore_and_so_do_we(keystore: Path) -> None:
    content = json.loads(keystore.read_text())
    assert content["version"] == 3
    assert content["crypto"]["kdf"] == "scrypt"
    assert bytes(Account.decrypt(content, PASSWORD)) == SECRET
    assert_hides(keystore.read_text(), SECRET)
    assert Wallet.from_keystore(keystore, PASSWORD).address == ADDRESS


def test_we_read_the_keystore_of_eth_account(tmp_path: Path) -> None:
    path = quick_keystore(tmp_path / "wallet.json")
    assert Wallet.from_keystore(path, PASSWORD).address == ADDRESS
    assert Wallet.from_keystore(str(path), PASSWORD).address == ADDRESS


def test_a_wrong_password_says_so(tmp_path: Path) -> None:
    path = quick_keystore(tmp_path / "wallet.json")
    for password in ("", "Correct-horse-battery-staple", PASSWORD + "\n"):
        with pytest.raises(ConfigError, match="the password is wrong") as caught:
            Wallet.from_keystore(path, password)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b'"text"',
        b"{}",
        b'{"version": 3}',
        b'{"version": 3, "crypto": null}',
        b'{"version": 3, "crypto": {}}',
        b'{"version": 1, "crypto": {}}',
        b'{"version": "3"}',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        KEY.encode(),
    ],
)
def test_what_is_no_keystore_is_a_config_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "wallet.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot open the keystore .*: it is no keystore"):
        Wallet.from_keystore(path, PASSWORD)


@pytest.mark.parametrize("bad", [None, 1, 1.5, "", "zz", "0x", [], {}, True])
@pytest.mark.parametrize(
    "key", ["cipherparams", "ciphertext", "kdf", "kdfparams", "mac", "version"]
)
def test_a_keystore_that_is_damaged_is_a_config_error(tmp_path: Path, key: str, bad: Any) -> None:
    changes = {"version": bad} if key == "version" else {"crypto": {key: bad}}
    path = quick_keystore(tmp_path / "wallet.json", **changes)
    with pytest.raises(ConfigError, match="cannot open the keystore"):
        Wallet.from_keystore(path, PASSWORD)


def test_a_keystore_with_an_unknown_pseudo_random_function_is_a_config_error(
    tmp_path: Path,
) -> None:
    params = {"c": 1, "dklen": 32, "prf": "hmac-md5", "salt": "00" * 16}
    path = quick_keystore(tmp_path / "wallet.json", crypto={"kdfparams": params})
    with pytest.raises(ConfigError, match="cannot open the keystore"):
        Wallet.from_keystore(path, PASSWORD)


def test_a_keystore_nested_100_000_deep_is_a_config_error(tmp_path: Path) -> None:
    path = tmp_path / "wallet.json"
    path.write_text("[" * 100_000)
    program = (
        "import sys\n"
        "from x402sms.errors import ConfigError\n"
        "from x402sms.wallet import Wallet\n"
        "try: Wallet.from_keystore(sys.argv[1], 'x')\n"
        "except ConfigError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr[-300:]
    assert "cannot open the keystore" in done.stdout


def test_a_keystore_of_a_key_that_is_none_is_a_config_error(tmp_path: Path) -> None:
    path = quick_keystore(tmp_path / "wallet.json")
    crypto = json.loads(path.read_text())["crypto"]
    stream = int(crypto["ciphertext"], 16) ^ int.from_bytes(SECRET)
    ciphertext = stream.to_bytes(32)  # decrypts to zero
    salt = bytes.fromhex(crypto["kdfparams"]["salt"])
    derived = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, 1)
    mac = keccak256(derived[16:32] + ciphertext).hex()
    changes = {"ciphertext": ciphertext.hex(), "mac": mac, "kdfparams": crypto["kdfparams"]}
    changes["cipherparams"] = crypto["cipherparams"]
    quick_keystore(path, crypto=changes)
    with pytest.raises(ConfigError, match="holds no usable key"):
        Wallet.from_keystore(path, PASSWORD)


def test_a_keystore_that_cannot_be_read_is_a_config_error(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "directory")):
        with pytest.raises(ConfigError, match=rf"cannot open the keystore .*{why}"):
            Wallet.from_keystore(path, PASSWORD)


def test_a_keystore_is_never_overwritten(keystore: Path, tmp_path: Path) -> None:
    path = tmp_path / "wallet.json"
    path.write_bytes(keystore.read_bytes())
    with pytest.raises(ConfigError, match="never overwritten"):
        Wallet.generate().save_keystore(path, PASSWORD)
    assert path.read_bytes() == keystore.read_bytes()


def test_a_keystore_without_a_password_is_not_written(tmp_path: Path, wallet: Wallet) -> None:
    with pytest.raises(ConfigError, match="needs a password"):
        wallet.save_keystore(tmp_path / "wallet.json", "")
    assert list(tmp_path.iterdir()) == []


def test_a_keystore_that_cannot_be_written_is_a_config_error(
    tmp_path: Path, wallet: Wallet
) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*too long"):
        wallet.save_keystore(tmp_path / ("x" * 300), PASSWORD)


# --- the environment


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({}, "no wallet: set X402SMS_KEYSTORE"),
        ({ENV_KEY: "", ENV_KEYSTORE: ""}, "no wallet"),
        ({ENV_KEY: KEY, ENV_KEYSTORE: "wallet.json"}, "both"),
        ({ENV_KEY: "secret"}, "no private key"),
        ({ENV_KEYSTORE: "wallet.json"}, "X402SMS_KEYSTORE_PASSWORD or"),
        ({ENV_KEYSTORE: "wallet.json", ENV_PASSWORD: ""}, "X402SMS_KEYSTORE_PASSWORD or"),
        ({ENV_KEYSTORE: "none.json", ENV_PASSWORD: PASSWORD}, "cannot open the keystore none"),
        ({ENV_KEYSTORE: "wallet.json", ENV_PASSWORD: "x"}, "the password is wrong"),
        ({ENV_KEYSTORE: "wallet.json", ENV_PASSWORD_FILE: "none"}, "password file none"),
        ({ENV_KEYSTORE: "wallet.json", ENV_PASSWORD_FILE: "bytes"}, "password file bytes"),
    ],
)
def test_an_environment_without_a_wallet_says_what_to_set(
    env: dict[str, str], says: str, tmp_path: Path
) -> None:
    quick_keystore(tmp_path / "wallet.json")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=says) as caught:
        Wallet.from_env(env)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "env",
    [
        {ENV_KEY: KEY},
        {ENV_KEY: KEY, ENV_KEYSTORE: ""},
        {ENV_KEYSTORE: "wallet.json", ENV_PASSWORD: PASSWORD},
        {ENV_KEYSTORE: "wallet.json", ENV_PASSWORD_FILE: "password"},
        {ENV_KEYSTORE: "wallet.json", ENV_PASSWORD: PASSWORD, ENV_PASSWORD_FILE: "none"},
    ],
)
def test_a_wallet_comes_from_the_environment(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_keystore(tmp_path / "wallet.json")
    (tmp_path / "password").write_text(PASSWORD + "\r\n")
    assert Wallet.from_env(env).address == ADDRESS
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert Wallet.from_env().address == ADDRESS


# --- signing


def authorization(payer: str = ADDRESS) -> Authorization:
    return Authorization(BASE, payer, NOT_OURS, 10_000, 1, 2_000_000_000, b"\7" * 32)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, ORDER - 1), st.binary(min_size=32, max_size=32))
def test_a_signature_is_the_one_that_eth_account_makes(secret: int, digest: bytes) -> None:
    key = f"{secret:064x}"
    signed = Wallet.from_key(key).sign_digest(digest)
    assert signed == bytes(Account.unsafe_sign_hash(digest, key).signature)
    assert signed[64] in (27, 28)
    assert int.from_bytes(signed[32:64]) <= ORDER // 2


def test_any_typed_data_is_signed_as_eth_account_signs_it(wallet: Wallet) -> None:
    domain = {"name": "x", "version": "1", "chainId": 1}
    types = {"Cancel": [{"name": "nonce", "type": "bytes32"}]}
    message = {"nonce": bytes(32)}
    assert wallet.sign_typed_data(domain, types, message) == bytes(
        Account.sign_typed_data(KEY, domain, types, message).signature
    )


def test_both_ways_of_a_wallet_to_sign_agree(wallet: Wallet) -> None:
    given_authorization = authorization()
    assert sign(wallet, given_authorization) == wallet.sign_typed_data(
        given_authorization.domain_data(),
        given_authorization.message_types(),
        given_authorization.message_data(),
    )


def test_an_account_of_eth_account_is_a_signer(wallet: Wallet) -> None:
    account: LocalAccount = Account.from_key(KEY)
    assert isinstance(account, Signer)
    assert isinstance(wallet, Signer)
    assert sign(account, authorization()) == sign(wallet, authorization())


@pytest.mark.parametrize("thing", [None, "0x", object(), SimpleNamespace(address=ADDRESS)])
def test_what_cannot_sign_is_no_signer(thing: object) -> None:
    assert not isinstance(thing, Signer)


class Stranger:
    """A signer that answers with what it is told to."""

    def __init__(self, answer: object) -> None:
        self.address = ADDRESS
        self._answer = answer

    def sign_typed_data(
        self,
        domain_data: dict[str, Any],
        message_types: dict[str, Any],
        message_data: dict[str, Any],
    ) -> object:
        if isinstance(self._answer, BaseException):
            raise self._answer
        message = encode_typed_data(domain_data, message_types, message_data)
        assert message.header == BASE.domain_separator
        return self._answer


def good() -> bytes:
    return Wallet.from_key(KEY).sign_digest(authorization().digest())


def with_v(v: int) -> bytes:
    return good()[:64] + bytes((v,))


def high_s() -> bytes:
    """The same signature with s on the other side of the order: it recovers to the same key."""
    s = ORDER - int.from_bytes(good()[32:64])
    return good()[:32] + s.to_bytes(32) + bytes((27 + 28 - good()[64],))


@pytest.mark.parametrize(
    "answer",
    [good(), bytearray(good()), SimpleNamespace(signature=good()), with_v(good()[64] - 27)],
    ids=["bytes", "bytearray", "an object", "v 0 or 1"],
)
def test_a_signature_may_come_in_these_forms(answer: object) -> None:
    assert sign(Stranger(answer), authorization()) == good()


LIES: dict[str, object] = {
    "high s": high_s(),
    "the other v": with_v(27 + 28 - good()[64]),
    "v 29": with_v(29),
    "v 255": with_v(255),
    "v of EIP-155": with_v(37),
    "64 bytes": good()[:64],
    "66 bytes": good() + b"\0",
    "nothing": b"",
    "zeros": bytes(65),
    "r and s of all ones": b"\xff" * 64 + b"\x1b",
    "r of all ones": b"\xff" * 32 + good()[32:],
    "s of zero": good()[:32] + bytes(32) + good()[64:],
    "another key": Wallet.from_key("11" * 32).sign_digest(authorization().digest()),
    "another digest": Wallet.from_key(KEY).sign_digest(bytes(32)),
    "text": "0x" + good().hex(),
    "None": None,
    "an int": 65,
    "a negative int": -1,
    "a float": 6.5,
    "a list of large numbers": [999] * 65,
    "an object without one": SimpleNamespace(signature=None),
    "an exception": ValueError(f"cannot sign with {KEY}"),
    "an exception of its own": type("HSMError", (Exception,), {})(KEY),
    "an assertion": AssertionError(KEY),
    "a recursion": RecursionError(),
}


@pytest.mark.parametrize("answer", LIES.values(), ids=LIES.keys())
def test_a_signer_that_lies_or_fails_is_an_error_and_nothing_is_sent(answer: object) -> None:
    given_authorization = authorization()
    with pytest.raises(SigningFailed, match="nothing sent: ") as caught:
        sign(Stranger(answer), given_authorization)
    error = caught.value
    assert (error.amount, error.valid_before) == (Decimal("0.01"), 2_000_000_000)
    assert error.nonce == "0x" + "07" * 32
    assert error.__context__ is None or error.__suppress_context__
    shown = "".join(traceback.format_exception(error))
    assert_hides(shown + repr(vars(error)), SECRET)
    assert good().hex() not in shown


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupt_while_a_signer_signs_is_not_swallowed(error: BaseException) -> None:
    with pytest.raises(type(error)):
        sign(Stranger(error), authorization())


def test_a_signer_for_another_address_is_refused() -> None:
    with pytest.raises(SigningFailed, match="not its signature"):
        sign(Account.from_key(KEY), authorization(payer=NOT_OURS))


def test_a_signer_cannot_change_what_is_signed() -> None:
    class Meddler(Stranger):
        def sign_typed_data(
            self,
            domain_data: dict[str, Any],
            message_types: dict[str, Any],
            message_data: dict[str, Any],
        ) -> object:
            message_data["value"] = 10**12
            return bytes(
                Account.sign_typed_data(KEY, domain_data, message_types, message_data).signature
            )

    given_authorization = authorization()
    with pytest.raises(SigningFailed):
        sign(Meddler(None), given_authorization)
    assert given_authorization == authorization()


def test_a_wallet_made_from_a_key_of_coincurve_is_the_same() -> None:
    assert Wallet(coincurve.PrivateKey(SECRET)).address == ADDRESS
