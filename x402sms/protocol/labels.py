"""Who of a fleet buys, and what for: words of the user's own, bounded before they are written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from x402sms.errors import ConfigError
from x402sms.protocol import strict_json

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
            f"labels are at most {MOST_LABELS} names, service and country among them, with a value "
            'each: {"campaign": "spring"}'
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
    """As they were stored; without what another program wrote there, which must keep nobody from
    what the payment came to."""
    try:
        found = strict_json.loads(text) if text else {}
    except ValueError:
        return {}
    labels = found if isinstance(found, dict) else {}
    return {name: value for name, value in labels.items() if isinstance(value, str)}


def _is_value(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_VALUE and value.isprintable()
