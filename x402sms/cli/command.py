"""One mechanism for every command: options in; a result, its JSON or an error out; a receipt.

A command is a function of a `Run` and its own options that returns its result; `show` prints that
result for people. Modules of commands do without `from __future__ import annotations`: typer
needs the options' annotations as objects, and what is only known to the type checker is quoted.
"""

import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import typer

from x402sms.cli.failures import describe, interrupted
from x402sms.cli.options import Given, parameters
from x402sms.cli.output import Output
from x402sms.cli.receipts import show_charges, show_line, show_table
from x402sms.cli.run import Run

P = ParamSpec("P")
T = TypeVar("T")
Show = Callable[[Output, T], None]


def command(
    app: typer.Typer,
    name: str,
    *,
    example: str,
    show: Show[T],
    options: tuple[str, ...],
    itemised: bool = False,
    status: Callable[[T], int] | None = None,
) -> Callable[[Callable[Concatenate[Run, P], T]], Callable[Concatenate[Run, P], T]]:
    """Make a function a command of `app`. `itemised`: the receipt lists each payment.

    `status` gives the exit status of a result, where it is not always 0.
    """

    def register(
        function: Callable[Concatenate[Run, P], T],
    ) -> Callable[Concatenate[Run, P], T]:
        def call(**given: Any) -> None:
            out = Output(as_json=given.pop("as_json"))
            run = Run(Given(**{name: given.pop(name) for name in options}), out)
            ended = _execute(run, lambda: _untyped(function)(run, **given), show, itemised, status)
            if ended:
                raise typer.Exit(ended)

        own = list(inspect.signature(function).parameters.values())[1:]
        taken = [
            *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
            *parameters(options),
        ]
        call.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]  # python allows it
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in taken}
        app.command(name, help=inspect.getdoc(function), epilog=epilog(example))(call)
        return function

    return register


def epilog(example: str) -> str:
    """The example below a command's help; `\\b` keeps click from wrapping it."""
    lines = "\n".join(f"  {line}" for line in example.splitlines())
    return f"\b\nExample:\n{lines}"


def _untyped(function: Callable[..., T]) -> Callable[..., T]:
    return function


def _execute(
    run: Run,
    work: Callable[[], T],
    show: Show[T],
    itemised: bool,
    status_of: Callable[[T], int] | None,
) -> int:
    """The exit status. Whatever happened, what was paid for is told."""
    try:
        result = work()
        run.out.result(result, show)
        status = 0 if status_of is None else status_of(result)
    except (KeyboardInterrupt, typer.Abort):  # Ctrl-C at a question is an Abort
        status = _tell(run, interrupted(run.made, run.charged))
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  the edge of the program
        status = _tell(run, error)
    finally:
        run.close()
    (show_table if itemised else show_line)(run.out, run.made)
    show_charges(run.out, run.charged)
    if run.summary:
        run.out.step("cost", run.summary)
    return status


def _tell(run: Run, error: BaseException) -> int:
    failure = describe(error, run.made, run.facts, charged=run.charged)
    run.out.failure(failure)
    return failure.exit_code
