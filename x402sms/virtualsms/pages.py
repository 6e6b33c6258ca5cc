"""Lists in an answer, and which page comes next. The reference only says "paginated"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from x402sms.virtualsms.models import Page, Wire
from x402sms.virtualsms.reading import read, unreadable

_ROW_KEYS = ("data", "items", "results", "orders", "transactions")

_M = TypeVar("_M", bound=Wire)


def read_rows(model: type[_M], body: Any, *keys: str) -> tuple[_M, ...]:
    """The rows of a bare list, or of the list under one of `keys` or the usual names."""
    rows, at = _rows(body, (*_ROW_KEYS, *keys))
    return tuple(read(model, row, at=f"{at}[{index}]") for index, row in enumerate(rows))


def read_page(model: type[_M], body: Any, *, page: int, per_page: int) -> Page[_M]:
    """The page of an answer to a question for page `page` with `per_page` rows.

    The page that follows comes from `next_page`, or else `has_more`, or else `total`. A bare
    list says nothing about more pages: it is the last.
    """
    items = read_rows(model, body)
    if not isinstance(body, Mapping):
        return Page(items=items, page=page, per_page=per_page)
    answered = _count(body, "page")
    if answered is not None and answered != page:
        # A service that ignores `page` would otherwise be read in circles.
        raise unreadable(body, f"page: {page} was asked for, another was answered")
    size = _count(body, "per_page") or per_page
    return Page(
        items=items,
        page=page,
        per_page=size,
        next_page=_next_page(body, page, len(items)),
        total=_count(body, "total"),
    )


def _next_page(body: Mapping[str, Any], page: int, rows: int) -> int | None:
    if "next_page" in body:
        following = _count(body, "next_page")
        if following and following <= page:
            raise unreadable(body, "next_page: does not come after this page")
        return following or None
    if rows == 0:  # whatever it promises: nothing follows an empty page
        return None
    more = body.get("has_more")
    if more is None:
        total = _count(body, "total") or 0
        more = page * (_count(body, "per_page") or rows) < total
    if not isinstance(more, bool):
        raise unreadable(body, "has_more: neither true nor false")
    return page + 1 if more else None


def _rows(body: Any, keys: tuple[str, ...]) -> tuple[list[Any], str]:
    """The list of rows, and the name it was found under."""
    if isinstance(body, list):
        return body, ""
    if isinstance(body, Mapping):
        for key in keys:
            if isinstance(body.get(key), list):
                return body[key], key
    raise unreadable(body, f"no list of rows, neither bare nor under {', '.join(keys)}")


def _count(body: Mapping[str, Any], field: str) -> int | None:
    value = body.get(field)
    if value is None or value is False:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise unreadable(body, f"{field}: not a whole number")
    return value
