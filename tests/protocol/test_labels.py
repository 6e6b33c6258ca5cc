"""Who of a fleet buys, and what for: what may be said there, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from x402sms.errors import ConfigError
from x402sms.protocol.labels import checked_labels, checked_worker, labels_of, labels_text

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,31}", fullmatch=True).filter(
    lambda name: name not in ("worker", "day")
)
VALUES = st.text(min_size=1, max_size=100).filter(str.isprintable)


@given(labels=st.dictionaries(NAMES, VALUES, max_size=8))
def test_what_labels_may_be_comes_back_from_the_ledger(labels: dict[str, str]) -> None:
    text = labels_text(checked_labels(labels))
    assert labels_of(text) == labels
    assert text.isascii()
    assert text == labels_text(dict(reversed(labels.items())))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("not JSON", {}),
        ("null", {}),
        ("5", {}),
        ('"text"', {}),
        ('[["campaign", "spring"]]', {}),
        ("[" * 10_000, {}),
        ('{"campaign": "spring", "campaign": "autumn"}', {}),
        ('{"campaign": ["spring"], "service": "telegram", "country": 7}', {"service": "telegram"}),
    ],
    ids=["text", "null", "number", "string", "pairs", "deep", "twice", "not only text"],
)
def test_what_another_program_wrote_there_keeps_nobody_from_the_payment(
    text: str, labels: dict[str, str]
) -> None:
    assert labels_of(text) == labels


@pytest.mark.parametrize(
    "labels",
    [
        "campaign",
        ["campaign"],
        {f"name_{number}": "x" for number in range(9)},
        {"": "x"},
        {"Campaign": "x"},
        {"1st": "x"},
        {"two words": "x"},
        {"a" * 33: "x"},
        {"umlaut_ü": "x"},
        {"line\n": "x"},
        {7: "x"},
        {"worker": "x"},
        {"day": "x"},
        {"campaign": ""},
        {"campaign": "x" * 101},
        {"campaign": "two\nlines"},
        {"campaign": "\x1b[31m"},
        {"campaign": "\ud800"},
        {"campaign": 7},
        {"campaign": None},
    ],
    ids=repr,
)
def test_what_labels_cannot_be_is_a_config_error(labels: Any) -> None:
    with pytest.raises(ConfigError) as refused:
        checked_labels(labels)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("worker", ["w-3", "host 7, second", "Zürich", "x" * 100, ""])
def test_a_worker_has_a_name_or_none(worker: str) -> None:
    assert checked_worker(worker) == worker


@pytest.mark.parametrize("worker", ["x" * 101, "two\nlines", "\0", 7, None], ids=repr)
def test_what_is_no_name_of_a_worker_is_a_config_error(worker: Any) -> None:
    with pytest.raises(ConfigError, match="the name of a worker"):
        checked_worker(worker)
