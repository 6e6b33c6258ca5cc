"""Where the money moves: in memory, or in the USDC contract of a local anvil."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from eth_abi.abi import encode
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.conversions import to_bytes

from x402sms.errors import ConfigError
from x402sms.sandbox.chains import Chain
from x402sms.sandbox.payments import Authorization, Payment, Refused, split_signature
from x402sms.sandbox.rpc import Rpc, RpcError

NONCE_USED = "invalid_exact_evm_nonce_already_used"
INSUFFICIENT = "insufficient_funds"
TOO_LATE = "invalid_exact_evm_payload_authorization_valid_before"
FAILED = "invalid_transaction_state"
UNKNOWN = "unexpected_settle_error"

_TRANSFER_WITH_AUTHORIZATION = (
    "transferWithAuthorization"
    "(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)"
)
_TRANSFER_TYPES = _TRANSFER_WITH_AUTHORIZATION.partition("(")[2].rstrip(")").split(",")
_RECEIPT_TIMEOUT = 30  # seconds


class Settlement(Protocol):
    """Addresses are checksummed, amounts atomic units, transactions `0x` + 64 digits."""

    async def balance(self, address: str) -> int: ...

    async def nonce_used(self, authorization: Authorization) -> bool: ...

    async def settle(self, payment: Payment) -> str:
        """Move the money and return the transaction; raises Refused if it did not move."""
        ...

    async def refund(self, pay_to: str, payer: str, amount_atomic: int) -> None:
        """Send money that was paid back to who paid it."""
        ...

    async def fund(self, address: str, amount_atomic: int) -> None:
        """Give an address money out of nothing; ValueError where that cannot be done."""
        ...

    def check(self) -> None:
        """Raise ConfigError if nothing could be settled here."""
        ...


class MemorySettlement:
    """Balances in a dict, under the token's rules; `now` gives Unix time in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.balances: defaultdict[str, int] = defaultdict(int)
        self.used: set[tuple[str, str]] = set()

    async def balance(self, address: str) -> int:
        return self.balances[address]

    async def nonce_used(self, authorization: Authorization) -> bool:
        return (authorization.payer, authorization.nonce) in self.used

    async def settle(self, payment: Payment) -> str:
        """No await between the checks and the transfer: two payments cannot pass together."""
        authorization = payment.authorization
        payer = authorization.payer
        if payment.key in self.used:
            raise Refused(NONCE_USED, payer)
        if self._now() >= authorization.valid_before:
            raise Refused(TOO_LATE, payer)
        if self.balances[payer] < authorization.value:
            raise Refused(INSUFFICIENT, payer)
        self.used.add(payment.key)
        self.balances[payer] -= authorization.value
        self.balances[authorization.pay_to] += authorization.value
        return "0x" + hashlib.sha256("\n".join(payment.key).encode()).hexdigest()

    async def refund(self, pay_to: str, payer: str, amount_atomic: int) -> None:
        self.balances[pay_to] -= amount_atomic
        self.balances[payer] += amount_atomic

    async def fund(self, address: str, amount_atomic: int) -> None:
        self.balances[address] += amount_atomic

    def check(self) -> None:
        """Memory is always there."""


class AnvilSettlement:
    """The facilitator of a local chain: an unlocked anvil account submits and pays the gas.

    Refunds are real transfers of USDC: anvil lets the sandbox act as `pay_to` without its key.
    A failed one raises RpcError, and the record of the payment keeps saying nothing was refunded.
    """

    def __init__(self, rpc_url: str, chain: Chain) -> None:
        self._rpc = Rpc(rpc_url)
        self._chain = chain
        # One transaction at a time: the next is tried against what the last one left, so that
        # it is refused with the token's reason and not mined in vain.
        self._turn = threading.Lock()

    async def balance(self, address: str) -> int:
        return await asyncio.to_thread(self._read, "balanceOf(address)", ["address"], [address])

    async def nonce_used(self, authorization: Authorization) -> bool:
        nonce = to_bytes(hexstr=authorization.nonce)
        arguments: list[object] = [authorization.payer, nonce]
        state = await asyncio.to_thread(
            self._read, "authorizationState(address,bytes32)", ["address", "bytes32"], arguments
        )
        return state != 0

    async def settle(self, payment: Payment) -> str:
        return await asyncio.to_thread(self._settle, payment)

    async def refund(self, pay_to: str, payer: str, amount_atomic: int) -> None:
        await asyncio.to_thread(self._refund, pay_to, payer, amount_atomic)

    async def fund(self, address: str, amount_atomic: int) -> None:
        raise ValueError("on anvil USDC is minted on the chain, not by the sandbox")

    def check(self) -> None:
        try:
            chain_id = self._rpc.call_int("eth_chainId")
            code = self._rpc.call_text("eth_getCode", self._chain.usdc, "latest")
        except (OSError, RpcError) as error:
            raise ConfigError(f"no chain answers at {self._rpc.url}: {error}") from error
        if chain_id != self._chain.chain_id:
            raise ConfigError(
                f"the chain at {self._rpc.url} has id {chain_id}, not {self._chain.chain_id}"
            )
        if code == "0x":
            raise ConfigError(f"no USDC contract at {self._chain.usdc} on {self._rpc.url}")

    def _settle(self, payment: Payment) -> str:
        authorization = payment.authorization
        r, s, v = split_signature(payment.signature)
        data = _call_data(
            _TRANSFER_WITH_AUTHORIZATION,
            _TRANSFER_TYPES,
            [
                authorization.payer,
                authorization.pay_to,
                authorization.value,
                authorization.valid_after,
                authorization.valid_before,
                to_bytes(hexstr=authorization.nonce),
                v[0],
                r,
                s,
            ],
        )
        try:
            sender = self._rpc.call_list("eth_accounts")[0]
            with self._turn:
                transaction = self._send(sender, data)
                succeeded = self._wait(transaction)
        except (OSError, RpcError) as error:
            raise Refused(_reason(str(error)), authorization.payer) from error
        if not succeeded:
            raise Refused(FAILED, authorization.payer)
        return transaction

    def _refund(self, pay_to: str, payer: str, amount_atomic: int) -> None:
        self._rpc.call("anvil_impersonateAccount", pay_to)
        self._rpc.call("anvil_setBalance", pay_to, hex(10**18))  # one ether, for the gas
        data = _call_data(
            "transfer(address,uint256)", ["address", "uint256"], [payer, amount_atomic]
        )
        with self._turn:
            succeeded = self._wait(self._send(pay_to, data))
        if not succeeded:
            raise RpcError("the refund was reverted")

    def _read(self, signature: str, types: list[str], arguments: list[object]) -> int:
        call = {"to": self._chain.usdc, "data": _call_data(signature, types, arguments)}
        return self._rpc.call_int("eth_call", call, "latest")

    def _send(self, sender: str, data: str) -> str:
        """Submit a call to the token, tried first: a failed transaction does not say why.

        Tried on the pending block: the latest one may be as old as its last transaction.
        """
        call = {"from": sender, "to": self._chain.usdc, "data": data}
        self._rpc.call("eth_call", call, "pending")
        return self._rpc.call_text("eth_sendTransaction", call)

    def _wait(self, transaction: str) -> bool:
        """Whether the transaction, once mined, succeeded."""
        deadline = time.monotonic() + _RECEIPT_TIMEOUT
        while time.monotonic() < deadline:
            receipt = self._rpc.call("eth_getTransactionReceipt", transaction)
            if isinstance(receipt, dict):
                return bool(receipt.get("status") == "0x1")
            time.sleep(0.02)
        raise RpcError(f"no receipt of {transaction} after {_RECEIPT_TIMEOUT} seconds")


def _call_data(signature: str, types: list[str], arguments: list[object]) -> str:
    return "0x" + (function_signature_to_4byte_selector(signature) + encode(types, arguments)).hex()


def _reason(message: str) -> str:
    """The x402 code for what the token said when it reverted."""
    reasons = {
        "authorization is used or canceled": NONCE_USED,
        "transfer amount exceeds balance": INSUFFICIENT,
        "authorization is expired": TOO_LATE,
        "authorization is not yet valid": "invalid_exact_evm_payload_authorization_valid_after",
        "invalid signature": "invalid_exact_evm_payload_signature",
        "revert": FAILED,
    }
    return next((code for text, code in reasons.items() if text in message), UNKNOWN)
