"""The ledger against a real chain: settled or void by proof, everything else left as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount
from web3.exceptions import ContractLogicError

from tests.parts.fixtures import LocalChain
from tests.parts.rpc import Meddler, Refusal, meddling
from tests.parts.usdc import Authorization as Signed
from x402sms.chain import Chain, ChainUnreadable
from x402sms.errors import ConfigError, PaymentError
from x402sms.ledger import SQLiteLedger
from x402sms.ledger.base import Payment
from x402sms.limits import LONGEST_WINDOW
from x402sms.protocol.eip3009 import Authorization, intent_nonce
from x402sms.protocol.keccak import keccak256
from x402sms.protocol.networks import BASE, BASE_SEPOLIA, Network
from x402sms.protocol.types import (
    Attempt,
    Dialect,
    OnChain,
    OnChainCancelled,
    OnChainSettled,
    OnChainUnused,
    Outcome,
    PaymentState,
)
from x402sms.reconcile import Finding, Report, Verdict, rebuild, reconcile
from x402sms.wallet import Wallet

SHOP = "0x00000000000000000000000000000000000000A1"
STRANGER = "0x00000000000000000000000000000000000000A2"
CLAIMED = "0x" + "ab" * 32
ETH = 10**18
LATER = 2_000_000_000
WINDOW = 300

OPEN_STATES = [PaymentState.RESERVED, PaymentState.REFUSED, PaymentState.UNKNOWN]


@dataclass
class Buyer:
    """A wallet on a local chain, with a ledger: promises what it is asked to."""

    local: LocalChain
    account: LocalAccount
    ledger: SQLiteLedger

    def promise(
        self,
        intent: str,
        amount_atomic: int,
        state: PaymentState = PaymentState.UNKNOWN,
        *,
        pay_to: str = SHOP,
        transaction: str | None = None,
        window: int = WINDOW,
    ) -> Signed:
        """Reserve and sign it, and write down what its server said."""
        now = self.local.now
        nonce = intent_nonce(BASE, self.account.address, intent)
        authorization = Authorization(
            network=BASE,
            payer=self.account.address,
            pay_to=pay_to,
            amount_atomic=amount_atomic,
            valid_after=0,
            valid_before=now + window,
            nonce=nonce,
        )
        attempt = Attempt(
            intent=intent,
            authorization=authorization,
            method="POST",
            url="https://seller.example/sms",
            fingerprint="f" * 64,
            dialect=Dialect.V2,
            template={"x402Version": 2},
        )
        self.ledger.reserve(attempt, [], now=now)
        if state is not PaymentState.RESERVED:
            self.ledger.record(attempt, Outcome(state, "it said so", transaction), now=now)
        return self.local.usdc.sign(
            self.account,
            to=pay_to,
            amount_atomic=amount_atomic,
            nonce=nonce,
            valid_before=authorization.valid_before,
        )

    def row(self, intent: str) -> Payment:
        (payment,) = self.ledger.find(intent)
        return payment

    def reconcile(self, **meddlers: Meddler) -> Report:
        with meddling(self.local.rpc_url, **meddlers) as rpc, Chain(rpc.url, BASE) as chain:
            return reconcile(self.ledger, lambda _: chain, now=LATER)

    def rebuild(self, from_block: int = 0, **meddlers: Meddler) -> Report:
        with meddling(self.local.rpc_url, **meddlers) as rpc, Chain(rpc.url, BASE) as chain:
            return rebuild(
                self.ledger, chain, self.account.address, from_block=from_block, now=LATER
            )

    def rows(self) -> list[Payment]:
        return list(self.ledger.payments())

    def paid_on_chain(self) -> int:
        return sum(
            each.amount_atomic for each in self.local.usdc.transfers(sender=self.account.address)
        )

    def settled_in_ledger(self) -> int:
        return sum(
            payment.amount_atomic
            for payment in self.ledger.payments(state=PaymentState.SETTLED)
            if payment.verified
        )


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SQLiteLedger]:
    with SQLiteLedger(tmp_path / "ledger.db") as ledger:
        yield ledger


@pytest.fixture
def buyer(base_chain: LocalChain, ledger: SQLiteLedger) -> Buyer:
    return Buyer(base_chain, base_chain.funded_account(1_000_000), ledger)


@pytest.fixture
def time_traveller(own_chain: LocalChain, ledger: SQLiteLedger) -> Buyer:
    """One whose chain's clock may be moved."""
    return Buyer(own_chain, own_chain.funded_account(1_000_000), ledger)


class Saying(Chain):
    """A chain that gives the same answer of every payment."""

    def __init__(self, found: OnChain, first: Callable[[], object] = lambda: None) -> None:
        self.found = found
        self.first = first

    def look_up(self, *_: object, **__: object) -> OnChain:
        self.first()
        return self.found


def only(report: Report) -> Finding:
    (finding,) = report.findings
    return finding


def assert_untouched(before: list[Payment], ledger: SQLiteLedger) -> None:
    assert list(ledger.payments()) == before


# Settled


@pytest.mark.parametrize("state", OPEN_STATES)
def test_what_settled_is_settled_whatever_the_server_said(
    buyer: Buyer, state: PaymentState
) -> None:
    transaction = buyer.local.usdc.relay(buyer.promise("a", 70_000, state))
    finding = only(buyer.reconcile())
    row = buyer.row("a")
    assert (finding.verdict, finding.payment, finding.changed) == (Verdict.SETTLED, row, True)
    assert transaction in finding.why
    assert (row.state, row.verified, row.transaction) == (PaymentState.SETTLED, True, transaction)
    assert (row.pay_to, row.amount_atomic, row.updated_at) == (SHOP, 70_000, LATER)
    assert buyer.reconcile().findings == ()  # proven: not asked about again


@pytest.mark.parametrize("claim", [None, CLAIMED, "nonsense"])
def test_a_settlement_that_rests_on_the_servers_word_gets_its_proof(
    buyer: Buyer, claim: str | None
) -> None:
    signed = buyer.promise("a", 70_000, PaymentState.SETTLED, transaction=claim)
    assert not buyer.row("a").verified
    transaction = buyer.local.usdc.relay(signed)
    report = buyer.reconcile()
    assert report.all_proven
    assert buyer.row("a").transaction == transaction
    assert buyer.row("a").verified


@pytest.mark.parametrize("settles", [0, 1])
def test_of_two_prices_under_one_nonce_the_ledger_ends_with_the_one_that_was_paid(
    buyer: Buyer, settles: int
) -> None:
    offers = [buyer.promise("a", 10), buyer.promise("a", 12, pay_to=STRANGER)]
    paid = offers.pop(settles)
    transaction = buyer.local.usdc.relay(paid)
    with pytest.raises(ContractLogicError, match="used or canceled"):
        buyer.local.usdc.relay(offers[0])
    buyer.reconcile()
    row = buyer.row("a")
    assert (row.amount_atomic, row.pay_to) == (paid.amount_atomic, paid.to)
    assert (row.transaction, row.verified) == (transaction, True)
    assert buyer.ledger.spent_atomic(network=row.network, payer=row.payer) == paid.amount_atomic


def test_what_was_promised_anew_is_looked_for_since_the_first_promise(
    time_traveller: Buyer,
) -> None:
    local = time_traveller.local
    transaction = local.usdc.relay(time_traveller.promise("a", 10))
    for _ in range(3):
        local.anvil.move_clock(86_400)
    time_traveller.promise("a", 12)
    newest = int(local.anvil.request("eth_blockNumber"), 16)

    def newest_state_only(params: list[Any], ask: Callable[[], Any]) -> Any:
        if params[1] not in ("latest", hex(newest)):
            raise Refusal.error(-32000)
        return ask()

    with (
        meddling(local.rpc_url, eth_call=newest_state_only) as rpc,
        Chain(rpc.url, BASE, most_blocks=1) as chain,
    ):
        reconcile(time_traveller.ledger, lambda _: chain, now=LATER)
    row = time_traveller.row("a")
    assert (row.transaction, row.amount_atomic, row.verified) == (transaction, 10, True)


# Void


def test_what_is_unused_can_still_settle_until_it_expires(buyer: Buyer) -> None:
    buyer.promise("a", 10)
    before = buyer.rows()
    report = buyer.reconcile()
    finding = only(report)
    assert (finding.verdict, finding.changed) == (Verdict.OPEN, False)
    assert finding.why.startswith("not settled so far; it can be until 2")
    assert not report.all_proven
    assert_untouched(before, buyer.ledger)


@pytest.mark.parametrize("state", OPEN_STATES)
def test_what_expired_unused_by_the_chains_own_clock_is_void(
    time_traveller: Buyer, state: PaymentState
) -> None:
    signed = time_traveller.promise("a", 10, state)
    time_traveller.local.anvil.move_clock(WINDOW + 2)
    finding = only(time_traveller.reconcile())
    row = time_traveller.row("a")
    assert (finding.verdict, finding.payment, finding.changed) == (Verdict.VOID, row, True)
    assert "expired: still unused when the chain's time was 2" in finding.why
    assert (row.state, row.reason, row.nonce_burnt) == (PaymentState.VOID, finding.why, False)
    assert time_traveller.ledger.spent_atomic(network=row.network, payer=row.payer) == 0
    with pytest.raises(ContractLogicError, match="authorization is expired"):
        time_traveller.local.usdc.relay(signed)
    assert time_traveller.reconcile().findings == ()
    time_traveller.promise("a", 10)  # the same purchase, once more


@pytest.mark.parametrize(
    ("past", "verdict"), [(-1, Verdict.OPEN), (0, Verdict.OPEN), (1, Verdict.VOID)]
)
def test_it_is_void_only_past_the_last_second(buyer: Buyer, past: int, verdict: Verdict) -> None:
    buyer.promise("a", 10)
    chain = Saying(OnChainUnused(chain_time=buyer.row("a").valid_before + past))
    assert only(reconcile(buyer.ledger, lambda _: chain, now=LATER)).verdict is verdict


def test_it_is_not_void_while_an_earlier_price_under_its_nonce_can_settle(
    time_traveller: Buyer,
) -> None:
    local = time_traveller.local
    longer = time_traveller.promise("a", 10, window=600)
    time_traveller.promise("a", 12, window=30)
    local.anvil.move_clock(300)
    finding = only(time_traveller.reconcile())
    assert finding.verdict is Verdict.OPEN
    local.usdc.relay(longer)
    assert time_traveller.reconcile().all_proven
    assert time_traveller.row("a").amount_atomic == 10


def test_all_prices_under_a_nonce_are_void_when_none_can_settle(time_traveller: Buyer) -> None:
    time_traveller.promise("a", 10, window=600)
    time_traveller.promise("a", 12, window=30)
    time_traveller.local.anvil.move_clock(LONGEST_WINDOW + 2)
    assert only(time_traveller.reconcile()).verdict is Verdict.VOID


def test_what_was_cancelled_is_void_and_its_nonce_used_up(
    base_chain: LocalChain, ledger: SQLiteLedger
) -> None:
    account = base_chain.funded_account(10)
    buyer = Buyer(base_chain, account, ledger)
    base_chain.anvil.request("anvil_setBalance", account.address, hex(ETH))
    signed = buyer.promise("a", 10)
    with Chain(base_chain.rpc_url, BASE) as chain:
        wallet = Wallet.from_key(account.key.hex())
        cancelled = chain.cancel(wallet, signed.nonce, max_cost_wei=ETH)
    finding, row = only(buyer.reconcile()), buyer.row("a")
    assert finding.verdict is Verdict.VOID
    assert finding.why == row.reason == f"cancelled in transaction {cancelled.transaction}"
    assert (row.state, row.nonce_burnt) == (PaymentState.VOID, True)


# Not proven


def refused(*_: object) -> Any:
    raise Refusal.error(-32601)


def cut(*_: object) -> Any:
    raise Refusal(200, b'{"jsonrpc": "2.0", "id": 1, "result": [{"address": "0x833')


def ranges_of_one(params: list[Any], ask: Callable[[], Any]) -> Any:
    if params[0]["fromBlock"] != params[0]["toBlock"]:
        raise Refusal.error(-32005)
    return ask()


@pytest.mark.parametrize("state", [*OPEN_STATES, PaymentState.SETTLED])
@pytest.mark.parametrize("withholds", [lambda *_: [], refused, cut], ids=["none", "error", "cut"])
def test_what_settled_but_whose_event_is_withheld_stays_open(
    buyer: Buyer, state: PaymentState, withholds: Meddler
) -> None:
    buyer.local.usdc.relay(buyer.promise("a", 10, state))
    before = buyer.rows()
    finding = only(buyer.reconcile(eth_getLogs=withholds))
    assert (finding.verdict, finding.changed) == (Verdict.UNREAD, False)
    assert finding.payment == before[0]
    assert_untouched(before, buyer.ledger)


def test_an_rpc_that_gives_one_block_at_a_time_is_enough(time_traveller: Buyer) -> None:
    time_traveller.local.usdc.relay(time_traveller.promise("a", 10))
    assert time_traveller.reconcile(eth_getLogs=ranges_of_one).all_proven


def test_an_unreachable_rpc_changes_nothing(buyer: Buyer) -> None:
    for at, state in enumerate([*OPEN_STATES, PaymentState.SETTLED]):
        buyer.promise(f"purchase-{at}", 10, state)
    before = buyer.rows()
    with meddling(buyer.local.rpc_url) as rpc:
        url = rpc.url
    with Chain(url, BASE) as chain:
        report = reconcile(buyer.ledger, lambda _: chain, now=LATER)
    assert [finding.verdict for finding in report.findings] == [Verdict.UNREAD] * 4
    assert all("the connection failed" in finding.why for finding in report.findings)
    assert [finding.payment.intent for finding in report.findings] == [
        f"purchase-{at}"
        for at in range(4)  # oldest first
    ]
    assert report.changed == []
    assert_untouched(before, buyer.ledger)


def test_an_rpc_on_another_chain_is_a_wrong_setting(buyer: Buyer) -> None:
    buyer.promise("a", 10)
    before = buyer.rows()
    with (
        Chain(buyer.local.rpc_url, BASE_SEPOLIA) as chain,
        pytest.raises(ConfigError, match="chain 8453"),
    ):
        reconcile(buyer.ledger, lambda _: chain, now=LATER)
    assert_untouched(before, buyer.ledger)


def test_a_network_without_an_rpc_is_reported(buyer: Buyer) -> None:
    buyer.promise("a", 10)
    buyer.promise("b", 10)
    asked: list[Network] = []

    def none_for(network: Network) -> None:
        asked.append(network)

    report = reconcile(buyer.ledger, none_for, now=LATER)
    assert [finding.why for finding in report.findings] == ["no RPC of Base is configured"] * 2
    assert len(report.of(Verdict.UNREAD)) == 2
    assert asked == [BASE]  # once


class OneRow(SQLiteLedger):
    """A ledger with a row that no version of ours writes."""

    def __init__(self, payment: Payment) -> None:
        super().__init__(":memory:")
        self.payment = payment

    def payments(self, *, since: int = 0, state: PaymentState | None = None) -> Iterator[Payment]:
        return iter([self.payment])


@pytest.mark.parametrize("changes", [{"network": "eip155:1"}, {"asset": SHOP}])
def test_a_token_that_we_do_not_know_is_reported_and_not_asked_for(
    buyer: Buyer, changes: dict[str, Any]
) -> None:
    buyer.promise("a", 10)
    foreign = replace(buyer.row("a"), **changes)
    with OneRow(foreign) as ledger:
        chain = Saying(OnChainUnused(chain_time=LATER))
        finding = only(reconcile(ledger, lambda _: chain, now=LATER))
    assert (finding.verdict, finding.payment) == (Verdict.UNREAD, foreign)
    assert finding.why == f"{foreign.asset} on {foreign.network} is no USDC that we know"


DISPROOFS = [OnChainUnused(chain_time=LATER), OnChainCancelled(CLAIMED)]


@pytest.mark.parametrize("found", DISPROOFS)
def test_a_settlement_that_never_happened_is_told_and_counts_no_more(
    buyer: Buyer, found: OnChain
) -> None:
    buyer.promise("a", 10, PaymentState.SETTLED, transaction=CLAIMED)
    report = reconcile(buyer.ledger, lambda _: Saying(found), now=LATER)
    finding = only(report)
    assert (finding.verdict, finding.changed) == (Verdict.VOID, True)
    assert finding.why.startswith(f"the server said settled in {CLAIMED}, but on the chain it is ")
    assert [row.state for row in buyer.rows()] == [PaymentState.VOID]


def test_what_another_process_settled_in_the_meantime_is_not_voided(buyer: Buyer) -> None:
    buyer.promise("a", 10)
    settled = OnChainSettled(CLAIMED, SHOP, 10)
    chain = Saying(
        OnChainUnused(chain_time=LATER),
        first=lambda: buyer.ledger.settle_from_chain(buyer.row("a"), settled, now=LATER),
    )
    finding = only(reconcile(buyer.ledger, lambda _: chain, now=LATER))
    assert finding.payment.state is PaymentState.SETTLED
    assert not finding.verdict.is_proof


def test_what_another_process_promised_anew_in_the_meantime_is_not_voided(buyer: Buyer) -> None:
    buyer.promise("a", 10)
    attempt = buyer.row("a").attempt()
    chain = Saying(
        OnChainUnused(chain_time=LATER),
        first=lambda: buyer.ledger.reserve(attempt, [], now=LATER),
    )
    finding = only(reconcile(buyer.ledger, lambda _: chain, now=LATER))
    assert (finding.verdict, finding.payment.state) == (Verdict.OPEN, PaymentState.RESERVED)


def test_one_report_tells_of_all(time_traveller: Buyer) -> None:
    expired = time_traveller.promise("expired", 1)
    time_traveller.local.usdc.relay(time_traveller.promise("settled", 2))
    time_traveller.local.anvil.move_clock(WINDOW + 2)
    time_traveller.promise("open", 4)
    report = time_traveller.reconcile()
    assert [(each.payment.intent, each.verdict) for each in report.findings] == [
        ("expired", Verdict.VOID),
        ("settled", Verdict.SETTLED),
        ("open", Verdict.OPEN),
    ]
    assert [each.payment.intent for each in report.changed] == ["expired", "settled"]
    assert only(Report(tuple(report.of(Verdict.VOID)))).payment.nonce == "0x" + expired.nonce.hex()
    assert time_traveller.settled_in_ledger() == time_traveller.paid_on_chain() == 2


# Rebuilt


_CODE_OF_ONE = 41


def settle_together(local: LocalChain, *authorizations: Signed) -> str:
    """Settle them in one transaction: the init code of a contract that calls USDC for each."""
    code, calls = b"", [_call(authorization) for authorization in authorizations]
    start = _CODE_OF_ONE * len(calls) + 1
    for call in calls:
        size = b"\x61" + len(call).to_bytes(2)  # PUSH2
        code += size + b"\x61" + start.to_bytes(2) + b"\x5f\x39"  # CODECOPY to 0
        code += b"\x5f\x5f" + size + b"\x5f\x5f\x73" + bytes.fromhex(BASE.usdc[2:])
        code += b"\x5a\xf1\x15\x5f\x57"  # CALL, ISZERO, JUMPI to 0, which fails: all or nothing
        start += len(call)
    assert len(code) == _CODE_OF_ONE * len(calls)
    sender = local.anvil.request("eth_accounts")[0]
    transaction: str = local.anvil.request(
        "eth_sendTransaction",
        {"from": sender, "data": "0x" + (code + b"\0" + b"".join(calls)).hex()},
    )
    local.anvil.request("evm_mine")  # it mines what was sent by itself, but some time later
    receipt = local.anvil.request("eth_getTransactionReceipt", transaction)
    assert int(receipt["status"], 16) == 1
    return transaction


def _call(signed: Signed) -> bytes:
    types = ["address", "address", "uint256", "uint256", "uint256", "bytes32", "bytes"]
    selector = keccak256(f"transferWithAuthorization({','.join(types)})".encode())[:4]
    return selector + encode(
        types,
        [
            signed.payer,
            signed.to,
            signed.amount_atomic,
            signed.valid_after,
            signed.valid_before,
            signed.nonce,
            signed.signature,
        ],
    )


def test_an_empty_ledger_is_made_whole_from_the_chain_alone(buyer: Buyer) -> None:
    usdc = buyer.local.usdc
    first = usdc.sign(buyer.account, to=SHOP, amount_atomic=123_456)
    transaction = usdc.relay(first)
    friend = buyer.local.funded_account(5)
    together = [
        usdc.sign(friend, to=SHOP, amount_atomic=5),
        usdc.sign(buyer.account, to=SHOP, amount_atomic=1),
        usdc.sign(buyer.account, to=STRANGER, amount_atomic=0),
        usdc.sign(buyer.account, to=STRANGER, amount_atomic=7),
    ]
    batch = settle_together(buyer.local, *together)

    report = buyer.rebuild()

    assert report.all_proven
    assert buyer.settled_in_ledger() == buyer.paid_on_chain() == 123_464
    rows = buyer.rows()[::-1]
    assert [finding.payment for finding in report.findings] == rows
    assert report.changed == list(report.findings)
    assert [(row.transaction, row.amount_atomic, row.pay_to) for row in rows] == [
        (transaction, 123_456, SHOP),
        (batch, 1, SHOP),
        (batch, 0, STRANGER),
        (batch, 7, STRANGER),
    ]
    assert rows[0].nonce == "0x" + first.nonce.hex()
    assert rows[0].intent == f"rebuilt:{rows[0].nonce}"
    assert {(row.method, row.url, row.state, row.verified) for row in rows} == {
        ("?", "?", PaymentState.SETTLED, True)
    }
    assert rows[0].created_at <= buyer.local.now
    assert buyer.reconcile().findings == ()


def test_rebuilding_again_changes_nothing(buyer: Buyer) -> None:
    for amount_atomic in (3, 4):
        buyer.local.usdc.relay(
            buyer.local.usdc.sign(buyer.account, to=SHOP, amount_atomic=amount_atomic)
        )
    buyer.rebuild()
    before = buyer.rows()
    report = buyer.rebuild()
    assert (report.changed, len(report.findings)) == ([], 2)
    assert_untouched(before, buyer.ledger)
    assert buyer.settled_in_ledger() == buyer.paid_on_chain() == 7


def test_rows_that_are_there_are_corrected_and_keep_what_they_are_for(buyer: Buyer) -> None:
    relay = buyer.local.usdc.relay
    cheap = buyer.promise("repriced", 10)
    buyer.promise("repriced", 12, pay_to=STRANGER)
    transactions = {
        "repriced": relay(cheap),
        "claimed": relay(buyer.promise("claimed", 20, PaymentState.SETTLED, transaction=CLAIMED)),
        "voided": relay(buyer.promise("voided", 30, PaymentState.REFUSED)),
    }
    buyer.ledger.void(buyer.row("voided"), "a mistake", now=LATER)
    buyer.promise("open", 40)

    report = buyer.rebuild()

    assert [finding.payment.intent for finding in report.changed] == [*transactions]
    for intent, transaction in transactions.items():
        row = buyer.row(intent)
        assert (row.state, row.verified) == (PaymentState.SETTLED, True)
        assert (row.transaction, row.pay_to) == (transaction, SHOP)
        assert (row.method, row.url) == ("POST", "https://seller.example/sms")
    assert buyer.row("repriced").amount_atomic == 10
    assert buyer.row("open").state is PaymentState.UNKNOWN
    assert len(buyer.rows()) == 4
    assert buyer.settled_in_ledger() == buyer.paid_on_chain() == 60


def test_a_row_that_was_proven_otherwise_is_told_and_left(buyer: Buyer) -> None:
    transaction = buyer.local.usdc.relay(buyer.promise("a", 10))
    buyer.ledger.settle_from_chain(buyer.row("a"), OnChainSettled(CLAIMED, SHOP, 9), now=LATER)
    before = buyer.rows()
    finding = only(buyer.rebuild())
    assert (finding.verdict, finding.changed) == (Verdict.CONTRADICTED, False)
    assert transaction in finding.why
    assert CLAIMED in finding.why
    assert_untouched(before, buyer.ledger)


def test_a_purchase_that_was_rebuilt_is_not_signed_for_again(buyer: Buyer) -> None:
    elsewhere = intent_nonce(BASE, buyer.account.address, "invoice-7")
    signed = buyer.local.usdc.sign(buyer.account, to=SHOP, amount_atomic=1, nonce=elsewhere)
    buyer.local.usdc.relay(signed)
    buyer.rebuild()
    with pytest.raises(PaymentError, match="nothing signed"):
        buyer.promise("invoice-7", 1)


def test_only_what_was_paid_from_the_given_block_on_is_rebuilt(buyer: Buyer) -> None:
    usdc = buyer.local.usdc
    usdc.relay(usdc.sign(buyer.account, to=SHOP, amount_atomic=1))
    newest = int(buyer.local.anvil.request("eth_blockNumber"), 16)
    usdc.relay(usdc.sign(buyer.account, to=SHOP, amount_atomic=2))
    assert [each.payment.amount_atomic for each in buyer.rebuild(newest + 1).findings] == [2]
    assert [each.payment.amount_atomic for each in buyer.rebuild(newest).findings] == [1, 2]


def test_a_rebuilding_that_is_cut_short_is_finished_by_the_next(time_traveller: Buyer) -> None:
    usdc = time_traveller.local.usdc
    usdc.relay(usdc.sign(time_traveller.account, to=SHOP, amount_atomic=1))
    seen = int(time_traveller.local.anvil.request("eth_blockNumber"), 16)
    usdc.relay(usdc.sign(time_traveller.account, to=SHOP, amount_atomic=2))

    def no_further(params: list[Any], ask: Callable[[], Any]) -> Any:
        if int(params[0]["toBlock"], 16) > seen:
            raise Refusal.error(-32005)
        return ask()

    with pytest.raises(ChainUnreadable):
        time_traveller.rebuild(eth_getLogs=no_further)
    assert time_traveller.settled_in_ledger() == 1
    time_traveller.rebuild()
    assert time_traveller.settled_in_ledger() == time_traveller.paid_on_chain() == 3
