"""One budget, one ledger, many processes: at no instant is more paid than the budget allows."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate
from pathlib import Path

from tests.chaos.child import Life
from tests.chaos.nursery import running_nursery
from tests.chaos.parts import (
    ONE_USDC,
    assert_books_agree,
    intents_of,
    key_of,
    paid_on_chain,
    reconciled,
    tell,
)
from tests.parts.fixtures import LocalChain
from x402sms import Wallet
from x402sms.ledger import SQLiteLedger
from x402sms.money import format_usdc
from x402sms.protocol.networks import BASE
from x402sms.sandbox import SandboxConfig, running_sandbox

PROCESSES = 8
EACH = 50
ALLOWED = 100
PRICE_ATOMIC = 1_000  # of the sandbox's list of services


def test_eight_processes_pay_exactly_what_one_budget_allows(
    seed: str, own_chain: LocalChain, tmp_path: Path
) -> None:
    """The sandbox settles one payment at a time: with nothing lost, the numbers are exact."""
    wallet = Wallet.from_key(key_of(seed))
    own_chain.usdc.mint(wallet.address, ONE_USDC)
    budget = ALLOWED * PRICE_ATOMIC
    book = tmp_path / "ledger.db"
    config = SandboxConfig(network="base", settlement="anvil", rpc_url=own_chain.rpc_url)
    with running_sandbox(config) as sandbox, running_nursery() as nursery:

        def life(process: int) -> Life:
            return {
                "key": key_of(seed),
                "url": f"{sandbox.url}/services",
                "rpc_url": None,
                "ledger": str(book),
                "intents": intents_of(f"{seed}:{process}", EACH),
                "total": format_usdc(budget),
                "kill_after": None,
                "die": None,
                "at": 0,
            }

        deaths = nursery.run(*map(life, range(PROCESSES)))
    ends = sum((Counter(death["result"]) for death in deaths), Counter[str]())
    tell(f"{dict(ends)}; by process {[death['result'] for death in deaths]}")
    paid = paid_on_chain(own_chain, wallet.address)
    with SQLiteLedger(book) as ledger:
        spent = ledger.spent_atomic(network=BASE.caip2, payer=wallet.address)

    assert ends == {"delivered": ALLOWED, "over budget": PROCESSES * EACH - ALLOWED}
    assert len(paid) == ALLOWED
    assert max(accumulate(each.amount_atomic for each in paid)) == budget == spent
    assert_books_agree(paid, reconciled(own_chain, book))
