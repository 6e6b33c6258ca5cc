"""Wallets and passwords from where they may come from: the environment, or a person's keyboard."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from x402sms.errors import ConfigError

if TYPE_CHECKING:
    from x402sms.wallet import Wallet

KEY = "X402SMS_PRIVATE_KEY"
KEYSTORE = "X402SMS_KEYSTORE"
PASSWORD = "X402SMS_KEYSTORE_PASSWORD"  # noqa: S105  the variable's name, not a password
PASSWORD_FILE = "X402SMS_KEYSTORE_PASSWORD_FILE"  # noqa: S105  as above


def wallet_from(env: Mapping[str, str]) -> Wallet:
    """The wallet that `env` names; a keystore's password is asked for where it is not set."""
    from x402sms.wallet import Wallet

    if KEYSTORE in env and KEY not in env and not _has_password(env) and sys.stdin.isatty():
        return Wallet.from_keystore(env[KEYSTORE], _ask(f"Password of {env[KEYSTORE]}"))
    return Wallet.from_env(env)


def new_password(env: Mapping[str, str]) -> str:
    """For a new keystore: from `env`, else asked for twice."""
    if PASSWORD in env:
        return env[PASSWORD]
    if PASSWORD_FILE in env:
        return _read(env[PASSWORD_FILE])
    if not sys.stdin.isatty():
        raise ConfigError(
            f"a keystore needs a password: set {PASSWORD} or {PASSWORD_FILE}, or run this in a "
            "terminal to be asked. Nothing was written"
        )
    password = _ask("Password for the new keystore")
    if password != _ask("The same again"):
        raise ConfigError("the two passwords differ. Nothing was written")
    return password


def source_of(env: Mapping[str, str]) -> str:
    """Where `wallet_from` has the key from."""
    return f"keystore {env[KEYSTORE]}" if KEYSTORE in env else KEY


def _has_password(env: Mapping[str, str]) -> bool:
    return PASSWORD in env or PASSWORD_FILE in env


def _ask(prompt: str) -> str:
    """Without echo, on stderr: stdout is for results."""
    return str(typer.prompt(prompt, hide_input=True, err=True))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"cannot read the password file {path} as UTF-8 text") from None
