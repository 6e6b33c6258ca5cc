"""The tree that errors.py draws is the tree that it has."""

from __future__ import annotations

import ast
import inspect
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import x402sms
from x402sms import errors
from x402sms.errors import PaymentError, X402SMSError
from x402sms.protocol.types import PaymentState, Receipt

PACKAGE = Path(x402sms.__file__).parent
_LINE = re.compile(r"^ {4}(?P<indent>[ \u2502\u251c\u2514\u2500]*)(?P<name>[A-Z]\w+)(?P<text>.*)$")


def drawn() -> dict[str, str | None]:
    """name -> its parent's name, as the docstring draws them."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        depth = len(match["indent"]) // 4
        parents[match["name"]] = path[depth - 1] if depth else None
        path[depth:] = [match["name"]]
    return parents


def real() -> dict[str, str | None]:
    classes = [
        each
        for each in vars(errors).values()
        if inspect.isclass(each) and issubclass(each, Exception)
    ]
    return {
        each.__name__: None if each is X402SMSError else each.__bases__[0].__name__
        for each in classes
    }


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    assert drawn() == real()
    assert len(real()) > 25


@pytest.mark.parametrize("name", sorted(real()))
def test_every_error_is_documented(name: str) -> None:
    error = getattr(errors, name)
    assert error.__doc__
    assert error.__doc__ != Exception.__doc__
    assert error.__doc__.rstrip().endswith((".", ")"))
    assert issubclass(error, X402SMSError)


@pytest.mark.parametrize("name", sorted(set(drawn()) - {"X402SMSError"}))
def test_every_line_of_the_tree_says_when_it_is_raised(name: str) -> None:
    (line,) = [
        match["text"].strip()
        for match in map(_LINE.match, (errors.__doc__ or "").splitlines())
        if match is not None and match["name"] == name
    ]
    assert line


def test_every_error_of_the_package_is_in_errors_py() -> None:
    """An error that is defined elsewhere is in no documentation of the tree."""
    elsewhere = []
    for path in PACKAGE.rglob("*.py"):
        if path.name == "errors.py" and path.parent == PACKAGE:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                if bases & real().keys():
                    elsewhere.append(f"{path.relative_to(PACKAGE)}: {node.name}")
    assert elsewhere == []


@pytest.mark.parametrize(
    "name", sorted(name for name in real() if issubclass(getattr(errors, name), PaymentError))
)
def test_every_error_about_money_has_the_four_facts(name: str) -> None:
    receipt = Receipt(
        intent="i",
        amount=Decimal("0.01"),
        network="base",
        payer="0x1",
        pay_to="0x2",
        nonce="0x3",
        valid_before=4,
        transaction="0x5",
        state=PaymentState.SETTLED,
        method="GET",
        url="https://seller.example/",
    )
    needed: dict[str, dict[str, Any]] = {
        "ChallengeError": {"field": "accepts"},
        "SpendLimitExceeded": {"limit": "per_call"},
        "AlreadyPaid": {"receipt": receipt},
    }
    error = getattr(errors, name)("said", **needed.get(name, {}))
    for fact in ("intent", "amount", "nonce", "valid_before"):
        assert hasattr(error, fact)
    assert "said" in str(error)
    if name == "AlreadyPaid":
        assert (error.intent, error.amount, error.nonce, error.valid_before) == (
            "i",
            Decimal("0.01"),
            "0x3",
            4,
        )


def test_the_other_errors_carry_what_they_say_they_carry() -> None:
    assert errors.ClockSkew("x", seconds=-5).seconds == -5
    assert errors.HostNotReachable("x", host="h").host == "h"
    assert errors.NoAcceptableOffer("x", offered=("a",)).offered == ("a",)
    code = errors.NoCodeReceived("x", order_id="o", cancelled=False)
    assert (code.order_id, code.cancelled) == ("o", False)
    problem = errors.RateLimited(
        "x",
        status_code=429,
        type="rate-limited",
        title="t",
        detail="d",
        instance="/i",
        problem={"a": 1},
        retry_after=5,
    )
    assert (problem.status_code, problem.type, problem.title) == (429, "rate-limited", "t")
    assert (problem.detail, problem.instance, problem.problem) == ("d", "/i", {"a": 1})
    assert problem.retry_after == 5
    assert (problem.response, problem.request_id, problem.receipt) == (None, None, None)
