from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.protocol.parts import RECIPIENT, STRANGER, v2_entry, v2_message
from x402sms.errors import ConfigError, SpendLimitExceeded
from x402sms.limits import LONGEST_WINDOW, MOST_ATOMIC, Budget, SpendLimits
from x402sms.money import to_usdc
from x402sms.protocol.eip3009 import SHORTEST_WINDOW
from x402sms.protocol.networks import BASE
from x402sms.protocol.types import Dialect, Offer, PaymentRequired, PaymentRequirements


def offer(amount_atomic: int, pay_to: str = RECIPIENT) -> Offer:
    entry = v2_entry(amount=str(amount_atomic), payTo=pay_to)
    requirements = PaymentRequirements(
        scheme="exact",
        network=BASE.caip2,
        amount_atomic=amount_atomic,
        asset=BASE.usdc,
        pay_to=pay_to,
        max_timeout_seconds=60,
        transfer_method=None,
        raw=entry,
    )
    challenge = PaymentRequired(Dialect.V2, (requirements,), resource=v2_message()["resource"])
    return Offer(BASE, amount_atomic, pay_to, 60, challenge, requirements)


def refusal(
    limits: SpendLimits, of: Offer, max_amount_atomic: int | None = None
) -> SpendLimitExceeded:
    with pytest.raises(SpendLimitExceeded) as caught:
        limits.check(of, intent="invoice-7", max_amount_atomic=max_amount_atomic)
    assert (caught.value.intent, caught.value.amount) == ("invoice-7", of.amount)
    assert str(caught.value).startswith("nothing signed: ")
    return caught.value


def test_without_a_word_a_dollar_a_call_and_ten_a_day_may_be_spent() -> None:
    limits = SpendLimits()
    assert limits.budgets == (Budget("per_day", 10_000_000, 86_400),)
    assert limits.authorization_ttl == 300
    limits.check(offer(1_000_000), intent="i")
    refusal(limits, offer(1_000_001))


def test_the_budgets_are_what_was_set() -> None:
    limits = SpendLimits(
        per_hour="0.5",
        per_day=2,
        total=Decimal("3.000001"),
        pay_to={RECIPIENT.lower(): "1", STRANGER: None},
    )
    assert limits.budgets == (
        Budget("per_hour", 500_000, 3600),
        Budget("per_day", 2_000_000, 86_400),
        Budget("total", 3_000_001, None),
        Budget("pay_to", 1_000_000, None, RECIPIENT),
    )
    assert SpendLimits(per_day=None).budgets == ()


def test_the_budgets_of_each_worker_stand_beside_those_of_all() -> None:
    limits = SpendLimits(per_day=None, worker_per_hour="0.1", worker_per_day=2, worker_total=3)
    assert limits.budgets == (
        Budget("worker_per_hour", 100_000, 3600, of_worker=True),
        Budget("worker_per_day", 2_000_000, 86_400, of_worker=True),
        Budget("worker_total", 3_000_000, of_worker=True),
    )
    limits.check_worker("w-3")
    with pytest.raises(ConfigError, match=r"worker_per_hour .* X402SMS_WORKER"):
        limits.check_worker("")
    SpendLimits().check_worker("")


def test_per_call_names_itself_by_how_much_and_how_to_raise_it() -> None:
    error = refusal(SpendLimits(per_call="0.05"), offer(60_001))
    assert str(error) == (
        "nothing signed: 0.060001 USDC is 0.010001 over the limit per_call of 0.05; "
        "raise it with SpendLimits(per_call=...) or X402SMS_MAX_PER_CALL"
    )
    assert (error.limit, error.allowed, error.spent) == ("per_call", Decimal("0.05"), None)


def test_the_ceiling_of_one_request_names_itself() -> None:
    error = refusal(SpendLimits(), offer(60_000), max_amount_atomic=50_000)
    assert str(error) == (
        "nothing signed: 0.06 USDC is 0.01 over the limit max_amount of 0.05; "
        "the ceiling was set for this request alone (max_amount, max_price)"
    )
    assert (error.limit, error.allowed) == ("max_amount", Decimal("0.05"))


def test_the_ceiling_of_one_request_never_raises_per_call() -> None:
    error = refusal(SpendLimits(per_call="0.05"), offer(60_000), max_amount_atomic=10**9)
    assert error.limit == "per_call"


def test_a_stranger_is_not_paid() -> None:
    error = refusal(SpendLimits(pay_to=STRANGER), offer(1))
    assert error.limit == "pay_to"
    assert (error.allowed, error.spent) == (None, None)
    assert RECIPIENT in str(error)
    assert "SpendLimits(pay_to=...) or X402SMS_PAY_TO" in str(error)


@pytest.mark.parametrize(
    "pay_to",
    [
        None,
        RECIPIENT,
        RECIPIENT.lower(),
        "0x" + RECIPIENT[2:].upper(),
        [STRANGER, RECIPIENT],
        (RECIPIENT,),
        {RECIPIENT},
        {RECIPIENT: "1"},
        {RECIPIENT: None},
        iter([RECIPIENT]),
    ],
    ids=lambda pay_to: type(pay_to).__name__,
)
def test_a_recipient_on_the_list_is_paid(pay_to: Any) -> None:
    limits = SpendLimits(pay_to=pay_to)
    limits.check(offer(1), intent="i")
    limits.check(offer(1), intent="i")


def test_an_empty_list_of_recipients_allows_nobody() -> None:
    assert refusal(SpendLimits(pay_to=[]), offer(0)).limit == "pay_to"


def test_a_limit_of_nothing_allows_nothing_but_nothing() -> None:
    limits = SpendLimits(per_call=0)
    limits.check(offer(0), intent="i")
    refusal(limits, offer(1))


def test_no_limit_is_still_what_the_ledger_can_count() -> None:
    limits = SpendLimits(per_call=None, per_day=None)
    limits.check(offer(MOST_ATOMIC), intent="i")
    refusal(limits, offer(MOST_ATOMIC + 1))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("per_hour", "SpendLimits(per_hour=...) or X402SMS_MAX_PER_HOUR"),
        ("per_day", "SpendLimits(per_day=...) or X402SMS_MAX_PER_DAY"),
        ("total", "SpendLimits(total=...) or X402SMS_MAX_TOTAL"),
        ("worker_per_hour", "SpendLimits(worker_per_hour=...) or X402SMS_MAX_WORKER_PER_HOUR"),
        ("worker_total", "SpendLimits(worker_total=...) or X402SMS_MAX_WORKER_TOTAL"),
        ("pay_to", "SpendLimits(pay_to={address: amount})"),
    ],
)
def test_a_budget_names_itself_by_how_much_and_how_to_raise_it(name: str, how: str) -> None:
    error = Budget(name, 1_000_000).exceeded(60_000, 990_000, "invoice-7")
    assert str(error) == (
        f"nothing signed: 0.06 USDC is 0.05 over the limit {name} of 1.00, with 0.99 already "
        f"promised; raise it with {how}"
    )
    assert (error.limit, error.allowed, error.spent) == (name, Decimal(1), Decimal("0.99"))
    assert (error.intent, error.amount) == ("invoice-7", Decimal("0.06"))


AMOUNTS = ("per_call", "per_hour", "per_day", "total", "worker_per_day")
BAD_AMOUNTS: list[Any] = [0.05, -1, "-1", "1_000", "1e3", "", "lots", True, float("nan"), [], b"1"]


@pytest.mark.parametrize("name", AMOUNTS)
@pytest.mark.parametrize("amount", [*BAD_AMOUNTS, to_usdc(MOST_ATOMIC + 1)], ids=repr)
def test_an_amount_that_cannot_be_meant_is_a_config_error(name: str, amount: Any) -> None:
    with pytest.raises(ConfigError, match=f"the limit {name}"):
        SpendLimits(**{name: amount})


@pytest.mark.parametrize("amount", BAD_AMOUNTS, ids=repr)
def test_a_recipients_cap_that_cannot_be_meant_is_a_config_error(amount: Any) -> None:
    with pytest.raises(ConfigError, match="the limit pay_to"):
        SpendLimits(pay_to={RECIPIENT: amount})


@pytest.mark.parametrize(
    "pay_to",
    [
        "",
        "vitalik.eth",
        RECIPIENT[:-1],
        RECIPIENT.replace("C51812dc", "c51812Dc"),
        [RECIPIENT, "0x0"],
        {"0x0": "1"},
        5,
        [5],
        [None],
        b"0x",
        {None: "1"},
    ],
    ids=repr,
)
def test_a_recipient_that_is_no_address_is_a_config_error(pay_to: Any) -> None:
    with pytest.raises(ConfigError, match="pay_to"):
        SpendLimits(pay_to=pay_to)


def test_a_recipient_named_twice_with_two_caps_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="pay_to"):
        SpendLimits(pay_to={RECIPIENT: "1", RECIPIENT.lower(): "5"})


@pytest.mark.parametrize(
    "ttl", [0, -1, SHORTEST_WINDOW - 1, LONGEST_WINDOW + 1, 60.0, "60", True, None]
)
def test_a_ttl_that_cannot_be_meant_is_a_config_error(ttl: Any) -> None:
    with pytest.raises(ConfigError, match=r"authorization_ttl is .*: it must be 30 to 3600"):
        SpendLimits(authorization_ttl=ttl)


@pytest.mark.parametrize("ttl", [SHORTEST_WINDOW, LONGEST_WINDOW])
def test_a_ttl_at_its_bounds_is_taken(ttl: int) -> None:
    assert SpendLimits(authorization_ttl=ttl).authorization_ttl == ttl


def test_limits_cannot_be_changed_once_set() -> None:
    limits = SpendLimits()
    with pytest.raises(AttributeError):
        limits.per_call = None  # type: ignore[misc]
    allowed = {RECIPIENT: "1"}
    limits = SpendLimits(pay_to=allowed)
    allowed[STRANGER] = "1"
    refusal(limits, offer(1, STRANGER))


def test_limits_are_values() -> None:
    assert SpendLimits() == SpendLimits()
    assert SpendLimits(per_call="2") != SpendLimits()
    assert hash(SpendLimits()) == hash(SpendLimits())
    assert "per_call='1.00'" in repr(SpendLimits())
    assert "_atomic" not in repr(SpendLimits())
