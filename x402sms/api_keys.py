"""API keys: one in memory, shown to nobody, and those that top-ups brought, kept on this machine.

A key is worth the balance of its account, so none is ever overwritten: a new one of the same host
is added below the older, and the last one counts.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from x402sms.errors import ConfigError

_USABLE = re.compile(r"[!-~]{8,200}", re.ASCII)  # printable: it goes into a header
_KEYRING_SERVICE = "x402sms"
_PRIVATE = 0o600


class ApiKey:
    """A key of an account. Neither repr, str nor vars() shows it. Raises ConfigError."""

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        usable = isinstance(text, str) and _USABLE.fullmatch(text.strip()) is not None
        self.__text = text.strip() if usable else ""
        del text  # a traceback that shows locals must not show it
        if not usable:
            raise ConfigError(
                "the API key is not usable (it is not shown): 8 to 200 printable characters "
                "without spaces, such as sk_live_..."
            )

    def reveal(self) -> str:
        return self.__text

    @property
    def account(self) -> str:
        """Tells accounts apart in the ledger; the key cannot be had from it."""
        return "key:" + hashlib.sha256(self.__text.encode()).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.account)

    def __repr__(self) -> str:
        return f"ApiKey({self.account})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled")


def as_key(key: str | ApiKey) -> ApiKey:
    return key if isinstance(key, ApiKey) else ApiKey(key)


def load_key(url: str) -> ApiKey | None:
    """The last key that was stored for the host of `url`, None where there is none.

    Raises ConfigError for a store that cannot be read.
    """
    host = _host(url)
    keys = [*_in_file(host), *_in_keyring(host)]
    return keys[-1] if keys else None


def store_key(url: str, key: ApiKey) -> str:
    """Keep a key for the host of `url`; returns where. Raises ConfigError where that fails.

    In the system's keyring where the package `keyring` has one that works, else in a file that
    only its owner can read.
    """
    host = _host(url)
    if key in _in_keyring(host) or _to_keyring(host, key):
        return "the system's keyring"
    path = keys_path()
    if key not in _in_file(host):
        _append(path, f"{host} {key.reveal()}\n")
    return str(path)


def keys_path() -> Path:
    """`api_keys` in the user's data folder (on Linux `~/.local/share/x402sms/`)."""
    from platformdirs import user_data_path  # noqa: PLC0415  only where a key is looked for

    return user_data_path("x402sms") / "api_keys"


def _host(url: str) -> str:
    return urlsplit(url).netloc.lower().rpartition("@")[2]


def _in_file(host: str) -> list[ApiKey]:
    path = keys_path()
    try:
        text = path.read_text(encoding="utf-8")  # a host may have any letters
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"the stored API keys cannot be read: {path}") from None
    rows = (line.split() for line in text.splitlines())
    return [ApiKey(row[1]) for row in rows if len(row) == 2 and row[0] == host]


def _append(path: Path, line: str) -> None:
    """One write to the end, on disk when this returns: what others add at the same time stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        handle = os.open(path, flags, _PRIVATE)
        try:
            os.fchmod(handle, _PRIVATE)
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                line = f"\n{line}"  # below a line that a full disk or an editor left open
            row = line.encode()
            if os.write(handle, row) != len(row):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def _in_keyring(host: str) -> list[ApiKey]:
    if find_spec("keyring") is None:
        return []
    import keyring  # noqa: PLC0415  an extra, and slow

    try:
        text = keyring.get_password(_KEYRING_SERVICE, host)
    except Exception:  # noqa: BLE001  a backend may raise anything; there is the file
        return []
    return [ApiKey(word) for word in (text or "").split()]


def _to_keyring(host: str, key: ApiKey) -> bool:
    """Whether it is there now: what was written is read back."""
    if find_spec("keyring") is None:
        return False
    import keyring  # noqa: PLC0415  as above

    try:
        with _one_at_a_time():
            words = [*(each.reveal() for each in _in_keyring(host)), key.reveal()]
            keyring.set_password(_KEYRING_SERVICE, host, " ".join(words))
    except Exception:  # noqa: BLE001  as above
        return False
    return key in _in_keyring(host)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """A keyring has no adding: of two that read and write at once, one would lose its key."""
    folder = keys_path().parent
    try:
        import fcntl  # noqa: PLC0415  not everywhere

        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except (ImportError, OSError):  # a keyring without the lock is better than none
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
