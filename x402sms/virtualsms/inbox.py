"""The messages of one order, each told once, however often the service sends them.

An answer to a poll holds the newest message, or all, with or without times; the order itself
lists them too. So a message is known again by its content, and by its time and sender where both
sides have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from x402sms.virtualsms.models import Sms, SmsResult


@dataclass
class Inbox:
    """`add` gives what was not told before. `number` is the order's present one."""

    number: str | None = None
    latest: list[Sms] = field(default_factory=list)  # what `add` gave last
    _told: list[Sms] = field(default_factory=list)
    _bare: list[str] = field(default_factory=list)  # codes told without their texts

    def add(self, messages: Iterable[Sms]) -> list[Sms]:
        """Those that are new, in their order. A message for another number is not told."""
        known = list(self._told)
        new: list[Sms] = []
        for message in messages:
            if self._is_for_another(message):
                continue
            twin = next((told for told in known if _same(told, message)), None)
            bare = next((code for code in self._bare if code in message.content), None)
            if twin is not None:
                known.remove(twin)
            elif bare is not None:  # its text comes after it
                self._bare.remove(bare)
                self._told.append(message)
            else:
                new.append(message)
        self._told += new
        self.latest = new
        return new

    def add_code(self, code: str) -> bool:
        """A code that came without its text. False: it was told."""
        if code in self._bare or any(code in told.content for told in self._told):
            return False
        self._bare.append(code)
        self.latest = [Sms(content=code)]
        return True

    @property
    def has_told(self) -> bool:
        return bool(self._told or self._bare)

    def own(self, result: SmsResult) -> SmsResult:
        """An answer without what came for another number; its code and text may be that one's."""
        others = [message for message in result.messages if self._is_for_another(message)]
        if not others:
            return result
        kept = tuple(message for message in result.messages if message not in others)
        own_text = any(message.content == result.text for message in kept)
        said = {} if own_text else {"code": None, "text": None}
        return result.model_copy(update={"messages": kept, **said})

    def _is_for_another(self, message: Sms) -> bool:
        """A late one, for a number that was swapped away."""
        theirs = digits_of((message.model_extra or {}).get("phone_number"))
        own = digits_of(self.number)
        return bool(theirs and own) and theirs != own


def of_newest(result: SmsResult, news: Sequence[Sms]) -> SmsResult:
    """The answer with nothing but the newest of `news`: its `code` and text may be an older one's.

    The service's own text is the newest where times do not say otherwise.
    """
    from x402sms.virtualsms import codes  # noqa: PLC0415  40 ms of compiling, when it is needed

    newest = codes.newest(news)
    if newest is None:
        return result
    said = next((message for message in news if message.content == result.text), newest)
    if said.received_at == newest.received_at:
        newest = said
    own_code = result.text == newest.content or (
        result.text is None and len(news) == len(result.messages)
    )
    shown = _squeezed(result.code or "") in _squeezed(newest.content)
    code = result.code if own_code or shown else None
    return result.model_copy(update={"messages": (newest,), "text": newest.content, "code": code})


def messages_of(result: SmsResult) -> Sequence[Sms]:
    """All that an answer to a poll carries; its `full_text` last, unless it is listed too."""
    listed = result.messages
    if not result.text or any(message.content == result.text for message in listed):
        return listed
    return (*listed, Sms(content=result.text))


def digits_of(number: object) -> str:
    """A number to compare: with or without `+`, spaces and dashes it is the same."""
    return "".join(filter(str.isdigit, number)) if isinstance(number, str) else ""


def _squeezed(text: str) -> str:
    return "".join(filter(str.isalnum, text)).lower()


def _same(told: Sms, message: Sms) -> bool:
    return (
        told.content == message.content
        and (told.received_at is None or message.received_at in (None, told.received_at))
        and (told.sender is None or message.sender in (None, told.sender))
    )
