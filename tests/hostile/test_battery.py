"""One purchase, at most one payment, as a third party's retry-safety battery counts it.

`hostile-facilitator test` buys once in each of ten failure modes and counts the distinct payments
that settled. In the modes that it names after reconciliation, the question whether a payment
landed gets no answer either: a client that does not ask it proves nothing there.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from hostile_facilitator.hostile import (  # type: ignore[import-untyped]
    ALL_MODES,
    CLEAN,
    DECLARED_SAFE,
    FIVE_XX_AFTER_SETTLE,
    RECONCILE_MODES,
    RECONCILE_OVERSIZED,
    RECONCILE_SOFT_404,
    RECONCILE_TRUNCATED,
    SLOW_ANSWER,
)

from tests.hostile.battery import COMMAND, Bought, buy_once, run_battery
from tests.hostile.pay_once import TRIES


def test_the_battery_can_tell_a_broken_client_from_a_safe_one() -> None:
    checked = subprocess.run(
        [*COMMAND, "selftest"], check=True, capture_output=True, text=True, timeout=60
    )
    assert "instrument valid: True" in checked.stdout


def test_ours_is_safe_in_all_ten_modes_and_the_official_client_in_three(
    tmp_path: Path,
) -> None:
    """The second is the control: a pass without one would be a declaration."""
    with ThreadPoolExecutor() as pool:
        ours, official = pool.map(partial(run_battery, folder=tmp_path), ["documented", "official"])
    assert ours.summary == {
        "safe": len(ALL_MODES),
        "total": len(ALL_MODES),
        "verdict": "PASS",
        "double_paying_modes": [],
        "errored_modes": [],
        "not_exercised_modes": [],
    }, str(ours)
    # The battery itself takes no payment at all for a safe one.
    assert ours.settlements == dict.fromkeys(ALL_MODES, 1), str(ours)
    for mode, report in ours.reports.items():
        [row] = report.rows
        assert (report.tries, report.delivered) == (["200"], True), f"{mode}\n{ours}"
        if mode in RECONCILE_MODES:
            assert row.startswith("unknown: the server says settled"), f"{mode}\n{ours}"
            assert "could not be read" in row, f"{mode}\n{ours}"
        else:
            assert row == "settled: verified", f"{mode}\n{ours}"

    assert official.summary["verdict"] == "FAIL", str(official)
    answered = {CLEAN, SLOW_ANSWER, DECLARED_SAFE}
    # A loaded machine may be too slow for the slow answer as well.
    assert set(official.summary["double_paying_modes"]) >= set(ALL_MODES) - answered, str(official)
    assert official.settlements[FIVE_XX_AFTER_SETTLE] == TRIES, str(official)


def test_the_application_carries_the_purchase_from_try_to_try(tmp_path: Path) -> None:
    """Whether by its request or by its intent alone; the transport itself presents once here."""
    purchases = [("resending", FIVE_XX_AFTER_SETTLE), ("elsewhere", FIVE_XX_AFTER_SETTLE)]
    resending, elsewhere = buy_at_once(purchases, tmp_path)
    assert (len(resending.report.rows), len(elsewhere.report.rows)) == (1, 2)
    for bought in (resending, elsewhere):
        assert bought.settlements == 1
        assert len(set(bought.report.nonces)) == 1
        assert bought.report.tries == ["AlreadyPaid", "200"]
        assert "settled: verified" in bought.report.rows


def test_where_every_paid_answer_is_lost_only_a_clear_answer_of_the_chain_is_believed(
    tmp_path: Path,
) -> None:
    modes = [CLEAN, RECONCILE_OVERSIZED, RECONCILE_TRUNCATED]
    bought = buy_at_once([("deaf", mode) for mode in modes], tmp_path)
    for one in bought:
        assert (one.settlements, one.reconciled) == (1, True)
        assert not one.report.delivered
        assert len(one.report.nonces) == 1
    clear, *unclear = (one.report for one in bought)
    assert set(clear.tries) == {"AlreadyPaid"}
    assert clear.rows == ["settled: verified"]
    for report in unclear:
        assert set(report.tries) == {"PaymentUnknown"}
        [row] = report.rows
        assert row.startswith(
            "unknown: the answer was lost (ReadError); the chain could not be read"
        )


def test_a_sellers_refusal_is_checked_with_the_chain(tmp_path: Path) -> None:
    """The official seller answers 402 where its facilitator settled and then did not say so."""
    modes = [FIVE_XX_AFTER_SETTLE, RECONCILE_SOFT_404]
    settled, unread = buy_at_once([("once", mode) for mode in modes], tmp_path)
    assert (settled.settlements, unread.settlements) == (1, 1)
    assert settled.reconciled
    assert settled.report.tries == ["AlreadyPaid"]
    assert settled.report.rows == ["settled: verified"]
    assert unread.reconciled
    assert unread.report.tries == ["PaymentUnknown"]


def buy_at_once(purchases: list[tuple[str, str]], folder: Path) -> list[Bought]:
    """Each a pair of buyer and mode."""
    with ThreadPoolExecutor() as pool:
        buys = [pool.submit(buy_once, buyer, mode, folder) for buyer, mode in purchases]
        return [buy.result() for buy in buys]
