"""Who of a fleet buys, and what for: words of the user's own, bounded before they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from x402sms.errors import ConfigError

MOST_LABELS = 8
LONGEST_VALUE = 100
WORKER, DAY = "worker", "day"  # what spending is told by, beside labels
_NAME = re.compile("[a-z][a-z0-9_]{0,31}", re.ASCII)


def checked_worker(worker: str) -> str:
    """The name of a worker, or "" for none. Raises ConfigError."""
    if worker != "" and not _is_value(worker):
        raise ConfigError(
            f"the name of a worker is 1 to {LONGEST_VALUE} printable characters, such as w-3"
        )
    return worker


def checked_labels(labels: object) -> dict[str, str]:
    """What a purchase is for, by names. Raises ConfigError where that is not what labels are."""
    if not isinstance(labels, Mapping) or len(labels) > MOST_LABELS:
        raise ConfigError(
            f'labels are at most {MOST_LABELS} names with a value each: {{"campaign": "spring"}}'
        )
    for name, value in labels.items():
        checked_name(name)
        if not _is_value(value):
            raise ConfigError(f"the label {name} is 1 to {LONGEST_VALUE} printable characters")
    return dict(labels)


def checked_name(name: object) -> str:
    """The name of a label. Raises ConfigError."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None or name in (WORKER, DAY):
        raise ConfigError(
            "the name of a label is a small letter and up to 31 more letters, digits and _, such "
            f'as campaign; "{WORKER}" and "{DAY}" are known of each payment'
        )
    return name


def labels_text(labels: Mapping[str, str]) -> str:
    """As they are stored: JSON with sorted names, so that equal ones are equal text."""
    return json.dumps(labels, separators=(",", ":"), sort_keys=True) if labels else ""


def labels_of(text: str) -> dict[str, str]:
    return dict(json.loads(text)) if text else {}


def _is_value(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_VALUE and value.isprintable()
