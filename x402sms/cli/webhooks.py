"""`x402sms webhooks listen`: the service's events as lines, and as a program's input."""

import json
import logging
import os
import shlex
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from x402sms.cli.command import command
from x402sms.cli.options import NONE
from x402sms.cli.output import LONGEST_CELL, Output, cell, jsonable
from x402sms.cli.run import Run
from x402sms.errors import ConfigError
from x402sms.text import one_line

if TYPE_CHECKING:
    from x402sms.virtualsms.webhooks import Event

SECRET = "X402SMS_WEBHOOK_SECRET"  # noqa: S105  the variable's name, not a secret
SECRET_FILE = "X402SMS_WEBHOOK_SECRET_FILE"  # noqa: S105  as above
STORE = "X402SMS_WEBHOOKS"
PORT = 8403
EXEC_SECONDS = 60
_SPARE = 60  # seconds beyond the program's: then its event may be another process's
_STDERR = 2  # a program's own output is no part of ours


def register(app: typer.Typer) -> None:
    command(
        app,
        "listen",
        show=_show,
        options=NONE,
        example="x402sms webhooks listen --port 8403 --path /virtualsms\n"
        "x402sms webhooks listen --exec 'python on_event.py' --json",
    )(listen)


def listen(
    run: Run,
    *,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; others than this machine too.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="0 takes a free one.")
    ] = PORT,
    path: Annotated[
        str, typer.Option(metavar="PATH", help="The path of the URL that you told the service.")
    ] = "/",
    execute: Annotated[
        str | None,
        typer.Option(
            "--exec",
            metavar="CMD",
            help="A program, without a shell, that gets each event: its JSON on stdin, and "
            "X402SMS_EVENT_ID, _EVENT_TYPE and _EVENT_ORDER_ID.",
        ),
    ] = None,
    exec_timeout: Annotated[
        int, typer.Option(min=1, metavar="S", help="Stop the program after so many seconds.")
    ] = EXEC_SECONDS,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Where events are kept; else X402SMS_WEBHOOKS, else beside your ledger.",
        ),
    ] = None,
) -> None:
    """Receive the service's webhooks until Ctrl-C.

    The secret that they are signed with comes from X402SMS_WEBHOOK_SECRET, or the file that
    X402SMS_WEBHOOK_SECRET_FILE names. Prints a line for each event, or its JSON. Each is on disk
    before it is answered, and is handled once, also by several listeners on one store and across
    restarts; if --exec fails or is killed, it gets the event again, 5 times at most. Keys and
    passwords are taken out of its environment.

    Listens on this machine only: put a proxy with TLS before it. Jobs end on the events where
    they are told of the store: X402SMS_WEBHOOKS.
    """
    from x402sms.webhooks import EventStore, WebhookReceiver
    from x402sms.webhooks import listen as serve

    environment = run.environment
    program = _argv(execute)
    location = store or environment.get(STORE)

    unheard: list[BrokenPipeError] = []

    async def on_event(event: "Event") -> None:
        try:
            _tell(run.out, event)
        except BrokenPipeError as error:
            # Going on, it would take events that nobody gets. So it ends, this one is due again,
            # and the service delivers the others when somebody listens.
            unheard.append(error)
            signal.raise_signal(signal.SIGINT)
            raise
        if program:
            await execute_on(program, event, exec_timeout)

    with _noted(run.out), EventStore(location) as events:
        serve(
            WebhookReceiver(_secret(environment), events, on_event, lease=exec_timeout + _SPARE),
            host=host,
            port=port,
            path=path,
            on_ready=lambda url: _ready(run.out, url, host),
        )
    if unheard:
        raise unheard[0]


async def execute_on(program: list[str], event: "Event", seconds: float) -> None:
    """Run a program with the event. Raises ProgramFailed; what it started ends with it."""
    import asyncio

    from x402sms.steady import finish

    try:
        process = await asyncio.create_subprocess_exec(
            *program,
            stdin=asyncio.subprocess.PIPE,
            stdout=_STDERR,
            env=_environment(os.environ, event),
            start_new_session=True,  # so that Ctrl-C lets it finish, and a time-out ends all of it
        )
    except (OSError, ValueError) as error:
        raise ProgramFailed(f"{program[0]} cannot be run: {error}") from None
    try:
        async with asyncio.timeout(seconds):
            await process.communicate(_document(event).encode())
    except TimeoutError:
        raise ProgramFailed(f"{program[0]} was stopped after {seconds:g} s") from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await finish(process.wait)  # also where the listener stops
    if process.returncode != 0:
        raise ProgramFailed(f"{program[0]} ended with status {process.returncode}")


class ProgramFailed(Exception):
    """What --exec names failed; the event goes to it again later."""


def _environment(ours: Mapping[str, str], event: "Event") -> dict[str, str | bytes]:
    """Ours without any secret, and what the event is about; nothing in it can end a variable."""
    from x402sms.config import SECRETS

    told = {"ID": event.id, "TYPE": event.type, "ORDER_ID": event.order_id or ""}
    kept = {name: value for name, value in ours.items() if name not in {*SECRETS, *_AS_SECRET}}
    return {
        **kept,
        **{f"X402SMS_EVENT_{name}": one_line(value).encode() for name, value in told.items()},
    }


_AS_SECRET = {"X402SMS_RPC_URL"}  # its path is often a key


def _argv(text: str | None) -> list[str]:
    try:
        argv = [] if text is None else shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"--exec cannot be read: {error}") from None
    if text is not None and not argv:
        raise ConfigError("--exec names no program")
    return argv


def _secret(environment: Mapping[str, str]) -> str:
    if SECRET_FILE in environment and SECRET not in environment:
        path = environment[SECRET_FILE]
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"cannot read the file {path} of {SECRET_FILE}") from None
    return environment.get(SECRET, "")


def _ready(out: Output, url: str, host: str) -> None:
    from x402sms.purchase import is_loopback

    if out.as_json:
        _line({"listening": url})
    near = "this machine only" if is_loopback(host) else "others reach it, without TLS"
    out.note(f"listening on {url} ({near}); Ctrl-C ends it")


def _tell(out: Output, event: "Event") -> None:
    if out.as_json:
        print(_document(event), flush=True)
        return
    data: Any = getattr(event, "data", None)
    about = [getattr(data, name, None) for name in ("phone_number", "code", "full_text")]
    shown = [event.created_at, event.type, event.id, event.order_id, *about]
    print(one_line("  ".join(cell(each) for each in shown if each), LONGEST_CELL), flush=True)


def _document(event: "Event") -> str:
    """One line of ASCII, whatever is in it."""
    return json.dumps(event.model_dump(), default=jsonable)


def _line(value: object) -> None:
    print(json.dumps(value), flush=True)


class _Notes(logging.Handler):
    """What goes wrong while it listens, as a sentence on stderr."""

    def __init__(self, out: Output) -> None:
        super().__init__(logging.WARNING)
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        why = "" if error is None else f": {error}"
        self._out.note(f"warning: {record.getMessage()}{why}")


@contextmanager
def _noted(out: Output) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("x402sms", "uvicorn")]
    notes = _Notes(out)
    for logger in loggers:
        logger.addHandler(notes)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(notes)


def _show(out: Output, nothing: None) -> None:
    """It has printed its lines; there is no more to say."""
