"""Interrupted at every effect: the order is given back or confirmed, or a note says how."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.virtualsms.scripted import ERRORS, Scripted, job
from x402sms.errors import CooldownActive, PaymentUnknown, X402SMSError
from x402sms.virtualsms.effects import Bought, Earlier
from x402sms.virtualsms.job import Job
from x402sms.virtualsms.verification import close_after, enter, leave, receive_code, wait

KINDS: list[type[BaseException]] = [
    KeyboardInterrupt,
    asyncio.CancelledError,
    GeneratorExit,
    MemoryError,
]


def lost_then_found(service: Scripted) -> object:
    held = service.order()
    service.paid += held.price
    service.intents["job"] = Earlier(None, "unknown")
    service.queues["buy"] = [held.shown()] * 3
    return PaymentUnknown("the answer was lost")


def earlier_order(service: Scripted) -> None:
    service.intents["job"] = Earlier("o1", "settled")
    service.order()


def no_setting_up(service: Scripted) -> None:
    pass


def losing(service: Scripted) -> None:
    service.queues["buy"] = [lost_then_found]


Run = tuple[dict[str, Any], dict[str, Any], Callable[[Scripted], None], float]
RUNS: dict[str, Run] = {
    "a-code": ({"sms_after": 30}, {}, no_setting_up, 180),
    "a-swap-and-a-code": ({"sms_after": 150}, {"max_swaps": 1}, no_setting_up, 600),
    "silent": ({}, {"max_swaps": 1}, no_setting_up, 180),
    "two-numbers": ({}, {"max_numbers": 2}, no_setting_up, 400),
    "a-lost-answer": ({}, {}, losing, 60),
    "an-earlier-order": ({}, {}, earlier_order, 60),
    "a-cancel-refused": (
        {"queues": {"cancel": [CooldownActive("too early"), ERRORS["server"]()]}},
        {},
        no_setting_up,
        60,
    ),
}


def played(
    run: Run, *, context_manager: bool = False, **interruption: Any
) -> tuple[Scripted, BaseException | None]:
    given, terms, set_up, timeout = run
    queues = {name: list(queue) for name, queue in given.get("queues", {}).items()}
    service = Scripted(**(given | {"queues": queues}), limit=400, **interruption)
    set_up(service)
    resume = set_up is earlier_order
    try:
        if context_manager:
            _entered(service, job(**terms), timeout, resume)
        else:
            service.run(receive_code(job(**terms), timeout, resume=resume))
    except BaseException as error:
        if not isinstance(error, (X402SMSError, *KINDS)):
            raise
        return service, error
    return service, None


def _entered(service: Scripted, present: Job, timeout: float, resume: bool) -> None:
    """As a `with` block would."""
    service.run(enter(present, resume=resume))
    try:
        service.run(wait(present, timeout))
    except BaseException as error:
        service.run(close_after(present, error))
        raise
    service.run(leave(present))


def said(error: BaseException | None) -> str:
    return "" if error is None else "\n".join([str(error), *getattr(error, "__notes__", ())])


def assert_accounted_for(service: Scripted, error: BaseException | None, at: object) -> None:
    told = said(error)
    for held in service.orders.values():
        over = held.status in ("cancelled", "confirmed")
        named = f"`x402sms orders cancel {held.order_id}`" in told
        findable = "`x402sms recover`" in told and "may have been paid" in told
        assert over or named or findable, (at, held.order_id, held.status, told)


@pytest.mark.parametrize("context_manager", [False, True], ids=["at-once", "with-block"])
@pytest.mark.parametrize("done", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", RUNS)
def test_an_interruption_at_any_effect_leaves_nothing_open(
    name: str, kind: type[BaseException], done: bool, context_manager: bool
) -> None:
    run = RUNS[name]
    whole, _ = played(run, context_manager=context_manager)
    for at in range(len(whole.effects)):
        service, error = played(
            run, context_manager=context_manager, interrupt={at: kind("stop")}, done=done
        )
        if kind is GeneratorExit and not context_manager:
            assert len(service.effects) == at + 1  # a generator that is closed asks for no more
        elif kind is not GeneratorExit:
            first = 2 if name == "an-earlier-order" else 0  # it is not known before
            if at >= first:
                assert_accounted_for(service, error, at)
            assert not service.told(Bought) or not service.waiting, at


@pytest.mark.parametrize("context_manager", [False, True], ids=["at-once", "with-block"])
@pytest.mark.parametrize("name", RUNS)
def test_two_interruptions_end_it_and_say_what_is_left(name: str, context_manager: bool) -> None:
    run = RUNS[name]
    whole, _ = played(run, context_manager=context_manager)
    for first in range(2 if name == "an-earlier-order" else 0, len(whole.effects)):
        for second in range(first + 1, first + 16):
            service, error = played(
                run,
                context_manager=context_manager,
                interrupt={first: KeyboardInterrupt("1"), second: KeyboardInterrupt("2")},
            )
            assert_accounted_for(service, error, (first, second))


def test_an_interruption_every_time_ends_at_once() -> None:
    always = {at: KeyboardInterrupt(str(at)) for at in range(3, 400)}
    service, error = played(RUNS["silent"], interrupt=always)
    assert len(service.effects) <= 12
    assert_accounted_for(service, error, "always")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_rental_is_kept_and_named_whatever_interrupts_it(kind: type[BaseException]) -> None:
    if kind is GeneratorExit:
        pytest.skip("it may ask for nothing more")
    run: Run = ({}, {"rental_hours": 4}, no_setting_up, 60)
    whole, _ = played(run)
    for at in range(len(whole.effects)):
        service, error = played(run, interrupt={at: kind("stop")})
        assert [held.status for held in service.orders.values()] in ([], ["waiting"])
        assert not service.orders or "o1" in said(error), at
