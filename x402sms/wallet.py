"""Who signs. A `Wallet` holds a key in this process; anything with `address` and
`sign_typed_data` can stand in for it (a hardware wallet, a KMS, `eth_account`'s LocalAccount).

The key is reachable from nowhere but the wallet's own signing: it has no `__dict__`, its repr is
its address, it refuses to be pickled or copied, and no exception here carries it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

import coincurve

from x402sms.errors import ConfigError, SigningFailed
from x402sms.money import to_usdc
from x402sms.protocol.eip3009 import Authorization
from x402sms.protocol.keccak import checksum_address, keccak256
from x402sms.text import refuse_deep_json

ENV_KEY = "X402SMS_PRIVATE_KEY"  # the variable's name, not a key
ENV_KEYSTORE = "X402SMS_KEYSTORE"
ENV_PASSWORD = "X402SMS_KEYSTORE_PASSWORD"  # noqa: S105  the variable's name, not a password
ENV_PASSWORD_FILE = "X402SMS_KEYSTORE_PASSWORD_FILE"  # noqa: S105  as above

_HEX_KEY = re.compile(r"(?:0x)?([0-9a-fA-F]{64})", re.ASCII)
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_PRIVATE_FILE = 0o600
_DEEPEST_KEYSTORE = 16


@runtime_checkable
class Signer(Protocol):
    """What a payment needs of a wallet: the payer's address and EIP-712 signing.

    `sign_typed_data` takes the three parts of EIP-712 typed data, as `eth_account` does, and
    returns the 65 bytes r‖s‖v, or an object that has them as `.signature`.
    """

    @property
    def address(self) -> str: ...

    def sign_typed_data(
        self,
        domain_data: dict[str, Any],
        message_types: dict[str, Any],
        message_data: dict[str, Any],
    ) -> Any: ...


class Wallet:
    """A key in memory. Make one with `from_key`, `from_keystore`, `from_env` or `generate`."""

    __slots__ = ("__key", "_address")

    def __init__(self, key: coincurve.PrivateKey) -> None:
        self.__key = key
        self._address = _address_of(key.public_key)

    @classmethod
    def from_key(cls, key: str) -> Wallet:
        """From 32 bytes in hex, with or without `0x`. Raises ConfigError that does not show it."""
        wallet, complaint = _read_key(key)
        del key  # a traceback that shows locals must not show it
        if wallet is None:
            raise ConfigError(complaint)
        return wallet

    @classmethod
    def from_keystore(cls, path: str | os.PathLike[str], password: str) -> Wallet:
        """From an Ethereum keystore v3 file. Raises ConfigError: no file, no keystore, or a wrong
        password."""
        wallet, complaint = _read_keystore(path, password)
        del password  # as above
        if wallet is None:
            raise ConfigError(complaint)
        return wallet

    @classmethod
    def generate(cls) -> Wallet:
        """A new random key. Save it (`save_keystore`) before you put money on it."""
        wallet = None
        while wallet is None:  # one in 2^128 draws is out of range
            wallet = _from_secret(secrets.token_bytes(32))
        return wallet

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Wallet:
        """From `X402SMS_PRIVATE_KEY`, or `X402SMS_KEYSTORE` with its password or password file.

        Raises ConfigError where neither or both are set.
        """
        wallet, complaint = _read_environment(os.environ if environ is None else environ)
        del environ  # as above
        if wallet is None:
            raise ConfigError(complaint)
        return wallet

    @staticmethod
    def is_in(environ: Mapping[str, str]) -> bool:
        """Whether `from_env` would find one, be it well or badly set."""
        return bool(environ.get(ENV_KEY) or environ.get(ENV_KEYSTORE))

    @property
    def address(self) -> str:
        """In EIP-55 form."""
        return self._address

    def sign_digest(self, digest: bytes) -> bytes:
        """r‖s‖v over 32 bytes, v 27 or 28, s in the lower half (libsecp256k1, RFC 6979)."""
        signature = self.__key.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes((signature[64] + 27,))

    def sign_typed_data(
        self,
        domain_data: dict[str, Any],
        message_types: dict[str, Any],
        message_data: dict[str, Any],
    ) -> bytes:
        """Sign any EIP-712 typed data, encoded by `eth_account`. A payment does not need this."""
        from eth_account.messages import (  # noqa: PLC0415  takes 0.7 s to import
            encode_typed_data,
        )

        message = encode_typed_data(domain_data, message_types, message_data)
        return self.sign_digest(
            keccak256(b"\x19" + message.version + message.header + message.body)
        )

    def save_keystore(self, path: str | os.PathLike[str], password: str) -> None:
        """Write a keystore v3 (scrypt), readable by its owner only.

        Raises ConfigError if the file exists, or the password is empty.
        """
        if not password:
            raise ConfigError("a keystore needs a password")
        from eth_keyfile.keyfile import create_keyfile_json  # noqa: PLC0415  takes 0.6 s to import

        keystore = create_keyfile_json(self.__key.secret, password.encode(), kdf="scrypt")
        del password  # a traceback that shows locals must not show it
        target = Path(path)
        try:
            if target.exists():
                raise ConfigError(f"{target} exists already; a key is never overwritten")
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(keystore, file)
        except OSError as error:
            raise ConfigError(f"cannot write {target}: {error.strerror}") from None

    def __repr__(self) -> str:
        return f"Wallet({self._address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Wallet is not pickled or copied: its key stays in this process")


def sign(signer: Signer, authorization: Authorization) -> bytes:
    """The signer's 65 bytes over the authorization.

    A signer that is not our own `Wallet` is checked: the signature must be its own, and in the
    form that the USDC contract takes. Raises SigningFailed, never with what the signer said.
    """
    if type(signer) is Wallet:
        return signer.sign_digest(authorization.digest())
    try:
        answer = signer.sign_typed_data(
            authorization.domain_data(),
            authorization.message_types(),
            authorization.message_data(),
        )
        signature = bytes(getattr(answer, "signature", answer))
    except Exception as error:  # noqa: BLE001  a stranger's signer may raise anything at all
        raise _failed(authorization, f"the signer raised {type(error).__name__}") from None
    if len(signature) == 65 and signature[64] in (0, 1):  # r‖s‖v
        signature = signature[:64] + bytes((signature[64] + 27,))
    if not _is_signed_by(authorization, signature):
        raise _failed(authorization, "what the signer returned is not its signature of this")
    return signature


def _is_signed_by(authorization: Authorization, signature: bytes) -> bool:
    if len(signature) != 65 or signature[64] not in (27, 28):  # r‖s‖v
        return False
    if int.from_bytes(signature[32:64]) > _HALF_ORDER:  # the contract refuses these (EIP-2)
        return False
    recoverable = signature[:64] + bytes((signature[64] - 27,))
    try:
        public = coincurve.PublicKey.from_signature_and_message(
            recoverable, authorization.digest(), hasher=None
        )
    except Exception:  # noqa: BLE001  libsecp256k1 reports a bad point as a bare Exception
        return False
    return _address_of(public) == authorization.payer


def _failed(authorization: Authorization, why: str) -> SigningFailed:
    return SigningFailed(
        f"nothing sent: {why}",
        amount=to_usdc(authorization.amount_atomic),
        nonce=authorization.nonce_hex,
        valid_before=authorization.valid_before,
    )


def _address_of(public: coincurve.PublicKey) -> str:
    return checksum_address("0x" + keccak256(public.format(compressed=False)[1:])[12:].hex())


# The functions below hold secrets in their locals, so none of them raises: each returns the
# wallet, or None and what is wrong.


def _read_environment(env: Mapping[str, str]) -> tuple[Wallet | None, str]:
    key, keystore = env.get(ENV_KEY), env.get(ENV_KEYSTORE)
    if key and keystore:
        return None, f"both {ENV_KEY} and {ENV_KEYSTORE} are set: which wallet is meant?"
    if key:
        return _read_key(key)
    if keystore:
        password, complaint = _read_password(env)
        return (None, complaint) if password is None else _read_keystore(keystore, password)
    return None, (
        f"no wallet: set {ENV_KEYSTORE} (make one with `x402sms wallet new`) or {ENV_KEY}; or, for "
        "an account with a balance, X402SMS_API_KEY"
    )


def _read_password(env: Mapping[str, str]) -> tuple[str | None, str]:
    password = env.get(ENV_PASSWORD)
    if password:
        return password, ""
    path = env.get(ENV_PASSWORD_FILE)
    if not path:
        return None, f"{ENV_KEYSTORE} is set: set {ENV_PASSWORD} or {ENV_PASSWORD_FILE} too"
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n"), ""
    except OSError as error:
        return None, f"cannot read the password file {path}: {error.strerror}"
    except UnicodeDecodeError:
        return None, f"cannot read the password file {path}: it is not UTF-8 text"


def _read_key(key: object) -> tuple[Wallet | None, str]:
    match = _HEX_KEY.fullmatch(key.strip()) if isinstance(key, str) else None
    wallet = None if match is None else _from_secret(bytes.fromhex(match[1]))
    return wallet, (
        "that is no private key: it must be 64 hex digits (32 bytes), with or without 0x, and "
        "within the curve's order; it is not shown here on purpose"
    )


def _read_keystore(path: str | os.PathLike[str], password: str) -> tuple[Wallet | None, str]:
    from eth_keyfile.keyfile import decode_keyfile_json  # noqa: PLC0415  takes 0.6 s to import

    why = "it holds no usable key"
    wallet = None
    try:
        text = Path(path).read_text(encoding="utf-8")
        refuse_deep_json(text, _DEEPEST_KEYSTORE)
        wallet = _from_secret(bytes(decode_keyfile_json(json.loads(text), password.encode())))
    except OSError as error:
        why = f"{error.strerror}"
    except ValueError as error:
        why = "the password is wrong" if "MAC" in str(error) else "it is no keystore v3"
    except (TypeError, KeyError, AttributeError, NotImplementedError, AssertionError):
        why = "it is no keystore v3"
    return wallet, f"cannot open the keystore {path}: {why}"


def _from_secret(secret: bytes) -> Wallet | None:
    try:
        return Wallet(coincurve.PrivateKey(secret))
    except ValueError:  # zero, or not below the curve's order
        return None
