"""What went wrong, told to an agent: a sentence that it can act on, and the facts as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcp_types import CallToolResult, ContentBlock, TextContent
from pydantic import ValidationError
from pydantic_core import to_json

from x402sms import errors
from x402sms.protocol.types import Receipt
from x402sms.text import one_line

LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Told:
    """An error as the command line tells it: its kind, one sentence, an exit status, facts."""

    kind: str
    message: str
    exit_code: int
    facts: Mapping[str, Any] = field(default_factory=dict)


# How an error is told; the receipts are of what was paid before it was raised.
Describe = Callable[[BaseException, Sequence[Receipt]], Told]

# Commands that errors name, and the tool of the same meaning.
_TOOLS = {
    "orders show": "get_order",
    "orders list": "list_orders",
    "orders cancel": "cancel_order",
    "orders release": "release_rental",
    "services": "list_services",
    "countries": "list_countries",
}
_COMMAND = re.compile(rf"`x402sms ({'|'.join(_TOOLS)})((?: [^`\s]+)?)`")

_SAME_INTENT = (
    "Do not buy again under another intent. Trying again with the same intent is safe: it is "
    "never paid twice"
)
_OF_THIS_CALL = ("max_amount", "max_price")  # limits that its own arguments set
# What an agent can do about it; the class itself or its nearest base decides.
_NEXT: dict[type[BaseException], str] = {
    errors.SpendLimitExceeded: (
        "Only the user can raise the limits, where this server is configured: say which limit "
        "and why, and do not try to get around it. `spending` shows what is left"
    ),
    errors.PaymentUnknown: f"Money may have been paid. {_SAME_INTENT}",
    errors.PaymentRefused: (f"Tell the user: the wallet may lack USDC. {_SAME_INTENT}"),
    errors.AlreadyPaid: "It was paid once and not again; list_orders shows what it brought",
    errors.IntentConflict: "Use another intent for another purchase",
    errors.ConfigError: "The user has to change how this server is configured",
    errors.HostNotReachable: "Try again later, or tell the user",
    errors.InsufficientBalance: "Tell the user to top up the account: `x402sms topup 5`",
    errors.Unauthorized: "The user has to check the API key that this server was given",
    errors.ServiceNotFound: "list_services(search=...) finds the id of a service",
    errors.CountryNotFound: "list_countries(search=...) finds the code of a country",
    errors.OrderNotFound: "list_orders shows the orders there are",
    errors.NoStock: "Choose another country: service_availability shows where there is stock",
    errors.CooldownActive: "Wait that long, then try again; nothing has changed",
    errors.RateLimited: "Wait that long, then try again",
}


def failed(
    error: BaseException, describe: Describe, receipts: Sequence[Receipt] = ()
) -> CallToolResult:
    """The tool error for an exception of a tool."""
    if isinstance(error, ValidationError):
        return _error("InvalidArguments", _wrong_arguments(error), {})
    if is_ours(error):
        return _error(type(error).__name__, _unexpected(error), {})
    told = describe(error, receipts)
    if told.facts.get("limit") in _OF_THIS_CALL:
        advice: str | None = "Ask the user before you change max_price"
    else:
        advice = _advice(error)
    sentences = [_with_tools(told.message), *([] if advice is None else [advice])]
    facts = {name: value for name, value in told.facts.items() if value is not None}
    return _error(told.kind, " ".join(_ended(each) for each in sentences), facts)


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith(("?", "!")) else sentence.rstrip(".") + "."


def _advice(error: BaseException) -> str | None:
    return next((_NEXT[base] for base in type(error).__mro__ if base in _NEXT), None)


def is_ours(error: BaseException) -> bool:
    """Whether it is a mistake of this program, and not of the user, the agent or the service."""
    known = errors.X402SMSError | ValidationError
    return not isinstance(error, known) and type(error) is not ValueError


def complaint(error: BaseException) -> str:
    """One line for the log: of a stranger's exception only its kind, which holds no secret."""
    if isinstance(error, errors.X402SMSError):
        return one_line(f"{type(error).__name__}: {error}", LONGEST)
    return _unexpected(error)


def _unexpected(error: BaseException) -> str:
    return (
        f"unexpected {type(error).__name__}: this is a bug in x402sms, please report it. What was "
        "paid is in `spending`, what was bought in list_orders"
    )


def _with_tools(message: str) -> str:
    def tool(match: re.Match[str]) -> str:
        return f"{_TOOLS[match[1]]}({match[2].strip()})"

    return _COMMAND.sub(tool, message)


def _wrong_arguments(error: ValidationError) -> str:
    """Which argument is wrong, and how; what was given is not repeated."""
    wrong = []
    for each in error.errors(include_url=False, include_input=False, include_context=False)[:10]:
        where = ".".join(str(part) for part in each["loc"])
        said = each["msg"].removeprefix("Value error, ")
        wrong.append(one_line(f"{where}: {said}" if where else said, 300))
    return f"wrong arguments, nothing was sent or paid: {'; '.join(wrong)}."


def _error(kind: str, sentence: str, facts: Mapping[str, Any]) -> CallToolResult:
    document = to_json({"error": kind, **facts}).decode()
    blocks: list[ContentBlock] = [
        TextContent(text=one_line(sentence, LONGEST)),
        TextContent(text=document),
    ]
    return CallToolResult(content=blocks, is_error=True)
