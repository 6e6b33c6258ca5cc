"""Circle's own compiled USDC, at its real address on a local chain."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import requests
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from hexbytes import HexBytes
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction
from web3.types import EventData, TxReceipt

from tests.parts.anvil import DEPLOYER_KEY, NODE_MODULES, Anvil, PartMissing

T = TypeVar("T")


@dataclass(frozen=True)
class Deployment:
    """Where USDC lives on a chain and what its EIP-712 domain is called there."""

    chain_id: int
    address: str
    domain_name: str


# From Circle's list of USDC contract addresses; the names as those contracts answer `name()`.
BASE: Final = Deployment(8453, "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "USD Coin")
BASE_SEPOLIA: Final = Deployment(84532, "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "USDC")
DEPLOYMENTS: Final = {deployment.chain_id: deployment for deployment in (BASE, BASE_SEPOLIA)}

_ARTIFACTS = Path("@offchainlabs", "stablecoin-evm", "artifacts", "hardhat", "contracts")
_PROXY_SLOTS = ("org.zeppelinos.proxy.implementation", "org.zeppelinos.proxy.admin")
_NOBODY = "0x000000000000000000000000000000000000dEaD"
_UINT256_MAX = 2**256 - 1
_DEPLOYER: Final = Web3.to_checksum_address(Account.from_key(DEPLOYER_KEY).address)


@dataclass(frozen=True)
class Transfer:
    """A `Transfer` event: USDC that moved. Minting comes from the zero address."""

    sender: str
    to: str
    amount_atomic: int
    transaction: str


@dataclass(frozen=True)
class AuthorizationUsed:
    """An `AuthorizationUsed` event: the one settlement of a nonce."""

    authorizer: str
    nonce: bytes
    transaction: str


@dataclass(frozen=True)
class Authorization:
    """A signed EIP-3009 `TransferWithAuthorization`. Signed by eth_account's own EIP-712."""

    payer: str
    to: str
    amount_atomic: int
    valid_after: int
    valid_before: int
    nonce: bytes
    signature: bytes


class Usdc:
    """The token on one local chain. The deployer mints and pays the gas of what is relayed."""

    def __init__(self, web3: Web3, deployment: Deployment, contract: Contract) -> None:
        self._web3 = web3
        self._contract = contract
        self.deployment = deployment

    @property
    def address(self) -> str:
        return self.deployment.address

    def mint(self, address: str, amount_atomic: int) -> None:
        self._execute(self._contract.functions.mint(_checksummed(address), amount_atomic))

    def balance(self, address: str) -> int:
        return _typed(int, self._contract.functions.balanceOf(_checksummed(address)).call())

    def authorization_state(self, payer: str, nonce: bytes) -> bool:
        state = self._contract.functions.authorizationState(_checksummed(payer), nonce)
        return _typed(bool, state.call())

    def domain_separator(self) -> bytes:
        return _typed(bytes, self._contract.functions.DOMAIN_SEPARATOR().call())

    def transfers(self, *, sender: str | None = None, to: str | None = None) -> list[Transfer]:
        """All `Transfer` events so far, oldest first; of one sender or recipient if given."""
        return [
            Transfer(
                sender=event["args"]["from"],
                to=event["args"]["to"],
                amount_atomic=event["args"]["value"],
                transaction=_transaction(event),
            )
            for event in self._events("Transfer", {"from": sender, "to": to})
        ]

    def authorizations_used(self, *, payer: str | None = None) -> list[AuthorizationUsed]:
        """All `AuthorizationUsed` events so far, oldest first; of one payer if given."""
        return [
            AuthorizationUsed(
                authorizer=event["args"]["authorizer"],
                nonce=event["args"]["nonce"],
                transaction=_transaction(event),
            )
            for event in self._events("AuthorizationUsed", {"authorizer": payer})
        ]

    def sign(
        self,
        payer: LocalAccount,
        *,
        to: str,
        amount_atomic: int,
        nonce: bytes | None = None,
        valid_after: int = 0,
        valid_before: int = _UINT256_MAX,
    ) -> Authorization:
        """An authorization of `payer`, with a fresh nonce unless one is given."""
        nonce = os.urandom(32) if nonce is None else nonce
        signed = payer.sign_message(
            encode_typed_data(
                domain_data={
                    "name": self.deployment.domain_name,
                    "version": "2",
                    "chainId": self.deployment.chain_id,
                    "verifyingContract": self.address,
                },
                message_types={
                    "TransferWithAuthorization": [
                        {"name": "from", "type": "address"},
                        {"name": "to", "type": "address"},
                        {"name": "value", "type": "uint256"},
                        {"name": "validAfter", "type": "uint256"},
                        {"name": "validBefore", "type": "uint256"},
                        {"name": "nonce", "type": "bytes32"},
                    ]
                },
                message_data={
                    "from": payer.address,
                    "to": to,
                    "value": amount_atomic,
                    "validAfter": valid_after,
                    "validBefore": valid_before,
                    "nonce": nonce,
                },
            )
        )
        return Authorization(
            payer=payer.address,
            to=to,
            amount_atomic=amount_atomic,
            valid_after=valid_after,
            valid_before=valid_before,
            nonce=nonce,
            signature=bytes(signed.signature),
        )

    def relay(self, authorization: Authorization) -> str:
        """Settle it, as anybody may; the transaction's hash.

        Raises web3's ContractLogicError with the contract's own words if it refuses.
        """
        by_signature = self._contract.get_function_by_signature(
            "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,bytes)"
        )
        receipt = self._execute(
            by_signature(
                _checksummed(authorization.payer),
                _checksummed(authorization.to),
                authorization.amount_atomic,
                authorization.valid_after,
                authorization.valid_before,
                authorization.nonce,
                authorization.signature,
            )
        )
        return Web3.to_hex(receipt["transactionHash"])

    def _execute(self, call: ContractFunction) -> TxReceipt:
        # Estimating the gas runs the call first, so a refusal raises with the contract's words.
        return _mined(self._web3, call.transact({"from": _DEPLOYER}))

    def _events(
        self, name: Literal["Transfer", "AuthorizationUsed"], of: Mapping[str, str | None]
    ) -> list[EventData]:
        wanted = {key: _checksummed(value) for key, value in of.items() if value is not None}
        return list(self._contract.events[name]().get_logs(argument_filters=wanted, from_block=0))


@contextmanager
def deploy_usdc(anvil: Anvil, deployment: Deployment = BASE) -> Iterator[Usdc]:
    """Put USDC at its real address on `anvil`, with the deployer as its minter."""
    with requests.Session() as session:
        web3 = Web3(HTTPProvider(anvil.rpc_url, session=session))
        implementation = _deploy_implementation(web3)
        _place_proxy(anvil, web3, implementation, deployment.address)
        contract = web3.eth.contract(
            address=Web3.to_checksum_address(deployment.address),
            abi=_artifact("v2/FiatTokenV2_2")["abi"],
        )
        _initialize(web3, contract, deployment.domain_name)
        yield Usdc(web3, deployment, contract)


def _deploy_implementation(web3: Web3) -> str:
    """FiatTokenV2_2, linked to the library that checks its signatures."""
    library = _artifact("util/SignatureChecker")
    token = _artifact("v2/FiatTokenV2_2")
    address = _deploy(web3, library["abi"], library["bytecode"])
    return _deploy(web3, token["abi"], _linked(token, address))


def _linked(artifact: Mapping[str, Any], library: str) -> str:
    """The bytecode with `library` where the compiler left `__$...$__` for its only library."""
    code: str = artifact["bytecode"].removeprefix("0x")
    (libraries,) = artifact["linkReferences"].values()
    (places,) = libraries.values()
    for place in places:  # in bytes; two digits each
        start, end = 2 * place["start"], 2 * (place["start"] + place["length"])
        code = code[:start] + library.removeprefix("0x").lower() + code[end:]
    return f"0x{code}"


def _place_proxy(anvil: Anvil, web3: Web3, implementation: str, address: str) -> None:
    """A proxy deployed anywhere, copied to where USDC really is: its code and its two slots."""
    artifact = _artifact("v1/FiatTokenProxy")
    proxy = Web3.to_checksum_address(
        _deploy(web3, artifact["abi"], artifact["bytecode"], implementation)
    )
    # A proxy's admin may do nothing but administer; the deployer must be able to call the token.
    contract = web3.eth.contract(address=proxy, abi=artifact["abi"])
    _mined(web3, contract.functions.changeAdmin(_NOBODY).transact({"from": _DEPLOYER}))
    anvil.request("anvil_setCode", address, Web3.to_hex(web3.eth.get_code(proxy)))
    for name in _PROXY_SLOTS:
        slot = Web3.keccak(text=name)
        value = web3.eth.get_storage_at(proxy, int.from_bytes(slot))
        anvil.request(
            "anvil_setStorageAt",
            address,
            Web3.to_hex(slot),
            Web3.to_hex(HexBytes(value.rjust(32, b"\0"))),
        )


def _initialize(web3: Web3, contract: Contract, domain_name: str) -> None:
    """As USDC was set up over the years: each version's initializer, once."""
    call, deployer = contract.functions, _DEPLOYER
    for step in (
        call.initialize(domain_name, "USDC", "USD", 6, deployer, deployer, deployer, deployer),
        call.initializeV2(domain_name),
        call.initializeV2_1(_NOBODY),
        call.initializeV2_2([], "USDC"),
        call.configureMinter(deployer, _UINT256_MAX),
    ):
        _mined(web3, step.transact({"from": deployer}))


def _deploy(web3: Web3, abi: Any, bytecode: str, *args: object) -> str:
    transaction = web3.eth.contract(abi=abi, bytecode=bytecode).constructor(*args)
    receipt = _mined(web3, transaction.transact({"from": _DEPLOYER}))
    address = receipt["contractAddress"]
    assert address is not None
    return address


def _mined(web3: Web3, transaction: HexBytes) -> TxReceipt:
    receipt = web3.eth.wait_for_transaction_receipt(transaction, timeout=10, poll_latency=0.01)
    if receipt["status"] != 1:
        raise RuntimeError(f"transaction {transaction.to_0x_hex()} failed")
    return receipt


def _artifact(name: str) -> dict[str, Any]:
    folder = NODE_MODULES / _ARTIFACTS / f"{name}.sol"
    path = folder / f"{folder.stem}.json"
    if not path.is_file():
        raise PartMissing(path)
    artifact: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return artifact


def _checksummed(address: str) -> ChecksumAddress:
    return Web3.to_checksum_address(address)


def _transaction(event: EventData) -> str:
    return Web3.to_hex(event["transactionHash"])


def _typed(kind: type[T], value: object) -> T:
    assert isinstance(value, kind)
    return value
