"""The suite that is shipped finds what it is for: each of these ledgers fails the case that says
what is wrong with it, and TestFile passes it without the fault."""

from __future__ import annotations

import pytest

from tests.ledger import broken

pytest_plugins = ["pytester"]

MODULE = """
import pytest
from tests.ledger import broken
from x402sms.conformance import LedgerConformance

class TestTheirs(LedgerConformance):
    @pytest.fixture
    def open_ledger(self, tmp_path):
        return lambda: broken.{ledger}(tmp_path / "payments.db")
"""
FOUND_BY = {
    broken.ReadsTheBudgetBefore: "twenty_threads_against_a_cap_of_five_take_exactly_five",
    broken.CountsAPromiseTwice: "the_same_authorization_costs_nothing_more_however_late",
    broken.WritesWhatItRefuses: "all_of_several_budgets_hold_or_nothing_is_written",
    broken.WritesWhatWasInterrupted: "what_is_interrupted_leaves_no_row_and_no_lock",
    broken.TakesANoForProof: "void_gives_the_budget_back_and_nothing_else_does",
    broken.LetsTheLastWordWin: "a_final_state_stays",
    broken.CountsWhatIsVoid: "what_is_proven_void_no_longer_counts",
    broken.VoidsWhatWasPromisedAnew: "what_was_promised_anew_since_it_was_read_is_not_void",
    broken.DeliversTwice: "what_a_payment_brought_is_of_one_payment_and_stays",
    broken.AsksTwice: "an_intent_is_asked_for_once",
    broken.ForgetsWhenItIsClosed: "a_ledger_that_is_reopened_knows_what_it_knew",
    broken.BelievesTheClock: "a_clock_set_back_does_not_reopen_a_window",
    broken.ForgetsTheFirstRecipient: "a_promise_to_a_second_recipient_leaves_the_one_to_the_first",
    broken.CountsTheLastPrice: "a_new_authorization_is_counted_now_with_the_larger_amount",
    broken.CountsInFloats: "an_amount_is_exact_to_the_last_unit",
}


def run(pytester: pytest.Pytester, ledger: type, case: str) -> pytest.RunResult:
    """The case over that ledger, in a folder with nothing else."""
    module = pytester.makepyfile(test_theirs=MODULE.format(ledger=ledger.__name__)).name
    options = ("-q", "-W", "error", "-p", "no:cacheprovider", "--hypothesis-seed=0")
    return pytester.runpytest_inprocess(*options, f"{module}::TestTheirs::test_{case}")


@pytest.mark.parametrize(
    ("ledger", "case"), FOUND_BY.items(), ids=lambda each: getattr(each, "__name__", "")
)
def test_a_broken_ledger_fails(pytester: pytest.Pytester, ledger: type, case: str) -> None:
    result = run(pytester, ledger, case)
    outcomes = result.parseoutcomes()
    assert outcomes.keys() <= {"failed", "passed"}, outcomes
    assert outcomes["failed"] >= 1


def test_a_failure_shows_what_was_compared(pytester: pytest.Pytester) -> None:
    case = FOUND_BY[broken.ReadsTheBudgetBefore]
    result = run(pytester, broken.ReadsTheBudgetBefore, case)
    result.stdout.fnmatch_lines(["E *assert 20 == 5"])


def test_the_sequence_that_told_them_apart_is_shown(pytester: pytest.Pytester) -> None:
    result = run(pytester, broken.DeliversTwice, "it_answers_as_sqlite_does_whatever_is_done")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *the last answer is not SQLite's:", "E *Deliver(*"])
