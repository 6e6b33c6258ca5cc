"""Who spent it, and what for: sums that the store makes, added up by what was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Literal

from x402sms.errors import ConfigError
from x402sms.money import to_usdc
from x402sms.protocol.labels import DAY, WORKER, checked_name, labels_of
from x402sms.protocol.types import PaymentState

Road = Literal["x402", "rest"]
_FIRST_DAY = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Spending:
    """All payments (or, of the road "rest", charges) of one day that are alike, as a sum.

    `network` is CAIP-2, "" of charges; `payer` an address, or the account; `day` counts from
    1970-01-01 UTC, by when it was promised; `labels` is JSON, as a Payment has them. `atomic` is
    what they came to where they are settled, else the most that they may come to.
    """

    road: Road
    network: str
    payer: str
    day: int
    worker: str
    labels: str
    state: PaymentState
    count: int
    atomic: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent by one worker, for one service, on one day, ...: `by` has what was asked for,
    each with its value, None where it is not known. `road` is None where there is but one.

    `open_atomic` is promised, and not proven to be paid or void: it counts as spent.
    """

    by: dict[str, str | None]
    road: Road | None = None
    count: int = 0
    settled_atomic: int = 0
    open_atomic: int = 0

    @property
    def settled(self) -> Decimal:
        """In USDC."""
        return to_usdc(self.settled_atomic)

    @property
    def open(self) -> Decimal:
        """In USDC."""
        return to_usdc(self.open_atomic)

    @property
    def total(self) -> Decimal:
        """In USDC."""
        return to_usdc(self.settled_atomic + self.open_atomic)


def checked_keys(by: Sequence[str]) -> tuple[str, ...]:
    """What spending can be told by: "worker", "day", and the names of labels. Raises ConfigError"""
    for name in by:
        if name not in (WORKER, DAY):
            checked_name(name)
    if not by or len(set(by)) < len(by):
        raise ConfigError("say by what, and each once: worker, day, service, country, or a label")
    return tuple(by)


def spent_by(groups: Iterable[Spending], by: Sequence[str]) -> tuple[Spent, ...]:
    """Added up by those names, in the order of their values; what is void is not counted.

    Raises ConfigError for what spending cannot be told by.
    """
    by = checked_keys(by)
    counted = [group for group in groups if group.state is not PaymentState.VOID]
    both = len({group.road for group in counted}) > 1
    sums: dict[tuple[Any, ...], Spent] = {}
    for group in counted:
        values = _values(group, by)
        road = group.road if both else None
        key = *((value is None, value or "") for value in values), road or ""
        known = sums.get(key) or Spent(dict(zip(by, values, strict=True)), road)
        sums[key] = _added(known, group)
    return tuple(sums[key] for key in sorted(sums))


def summed(rows: Iterable[Spent]) -> Spent:
    """All of them together."""
    total = Spent({})
    for row in rows:
        total = replace(
            total,
            count=total.count + row.count,
            settled_atomic=total.settled_atomic + row.settled_atomic,
            open_atomic=total.open_atomic + row.open_atomic,
        )
    return total


def spending_of(rows: Iterable[Sequence[Any]]) -> Iterator[Spending]:
    """What a store's statement found, whose columns are in the order of the fields."""
    names = [field.name for field in fields(Spending)]
    for row in rows:
        columns = dict(zip(names, row, strict=True))
        yield Spending(**{**columns, "state": PaymentState(columns["state"])})


def _values(group: Spending, by: Sequence[str]) -> list[str | None]:
    labels = labels_of(group.labels)
    known = {**labels, DAY: _date(group.day), WORKER: group.worker or None}
    return [known.get(name) for name in by]


def _date(day: int) -> str:
    return (_FIRST_DAY + timedelta(days=day)).isoformat()


def _added(known: Spent, group: Spending) -> Spent:
    settled = group.atomic if group.state is PaymentState.SETTLED else 0
    return replace(
        known,
        count=known.count + group.count,
        settled_atomic=known.settled_atomic + settled,
        open_atomic=known.open_atomic + group.atomic - settled,
    )
