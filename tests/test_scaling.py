"""How many requests and payments one code takes: what `docs/scaling.md` multiplies."""

from __future__ import annotations

import httpx
import pytest

from x402sms.testing import VirtualSMS


class Counting(httpx.BaseTransport):
    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner
        self.requests = 0
        self.payments = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        response = self._inner.handle_request(request)
        self.payments += "payment-response" in response.headers
        return response


@pytest.mark.parametrize(
    ("road", "prepay", "taken"),
    [
        ("x402", "never", [(4, 8), (4, 8), (4, 8)]),
        ("x402", "auto", [(4, 8), (4, 6), (4, 6)]),
        ("rest", "auto", [(0, 5), (0, 5), (0, 5)]),
    ],
    ids=["asked each time", "paid ahead", "with an API key"],
)
def test_payments_and_requests_of_each_code(
    virtualsms: VirtualSMS, road: str, prepay: str, taken: list[tuple[int, int]]
) -> None:
    counting = Counting(virtualsms.sandbox.sync_transport)
    key = {"api_key": virtualsms.sandbox.api_key} if road == "rest" else {}
    sms = virtualsms.client(transport=counting, prepay=prepay, **key)
    seen = []
    for number in range(len(taken)):
        counting.requests = counting.payments = 0
        virtualsms.sms_arrives(after=30)
        sms.receive_code("telegram", max_price="0.30", intent=f"signup-test-{number}")
        seen.append((counting.payments, counting.requests))
    assert seen == taken
