"""What the chain says of balances, used nonces and the time: proof, where a server only claims.

Every method answers or raises `ChainUnreadable`: an RPC that is down, slow or talks nonsense is
never an answer. Needs web3, which is slow to import: import this package where it is used.
"""

from x402sms.chain.gas import CancelEstimate, DigestSigner, to_eth
from x402sms.chain.rpc import Head
from x402sms.chain.usdc import MOST_BLOCKS, Chain, UsedAuthorization, usdc_abi
from x402sms.errors import CannotCancel, ChainUnreadable

__all__ = [
    "MOST_BLOCKS",
    "CancelEstimate",
    "CannotCancel",
    "Chain",
    "ChainUnreadable",
    "DigestSigner",
    "Head",
    "UsedAuthorization",
    "to_eth",
    "usdc_abi",
]
