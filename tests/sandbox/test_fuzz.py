"""No payment header, however strange, makes the sandbox fail."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sandbox.conftest import DIALECTS, NO_TLS
from x402sms.sandbox import SandboxConfig, create_app
from x402sms.sandbox.config import DialectName

APPS = {dialect: create_app(SandboxConfig(dialect=dialect)) for dialect in DIALECTS}

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(["0x" + "0" * 130, "0x" + "f" * 40, "0x" + "0" * 64, "exact", "eip155:84532"]),
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
authorizations = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("from", "to", "value", "validAfter", "validBefore", "nonce"), values),
)
payloads = st.fixed_dictionaries(
    {}, optional={"signature": values, "authorization": authorizations | values}
)
documents = st.fixed_dictionaries(
    {"x402Version": st.sampled_from([1, 2])},
    optional={
        "scheme": values,
        "network": values,
        "accepted": values,
        "payload": payloads | values,
    },
)
encoded = st.one_of(
    documents.map(lambda document: base64.b64encode(json.dumps(document).encode())),
    st.binary().map(base64.b64encode),
    st.binary(),
)


def _status(app: FastAPI, header: bytes) -> int:
    async def ask() -> int:
        # Without a socket, so that even what no HTTP client would send arrives.
        name = b"payment-signature" if app is APPS["v2"] else b"x-payment"
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, verify=NO_TLS) as client:
            answer = await client.get("http://test/api/v2/services", headers={name: header})
            return answer.status_code

    return asyncio.run(ask())


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=60, deadline=None, database=None)
@given(header=encoded)
def test_a_strange_payment_header_is_a_402(dialect: DialectName, header: bytes) -> None:
    assert _status(APPS[dialect], header) == 402


_SIGNED_LIKE: dict[str, Any] = {
    "from": "0x" + "11" * 20,
    "to": APPS["v1"].state.sandbox.config.pay_to,
    "value": "1000",
    "validAfter": "0",
    "validBefore": str(2**255),
    "nonce": "0x" + "22" * 32,
}


@settings(max_examples=60, deadline=None, database=None)
@given(signature=st.binary(min_size=65, max_size=65), v=st.sampled_from([0, 1, 27, 28, 29, 255]))
def test_any_65_bytes_are_a_signature_of_nobody(signature: bytes, v: int) -> None:
    document = {
        "x402Version": 1,
        "scheme": "exact",
        "network": "base-sepolia",
        "payload": {
            "signature": "0x" + (signature[:64] + bytes([v])).hex(),
            "authorization": _SIGNED_LIKE,
        },
    }
    header = base64.b64encode(json.dumps(document).encode())
    assert _status(APPS["v1"], header) == 402
