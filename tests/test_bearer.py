"""An API key goes to the one origin that it is for, and is seen by nobody on the way."""

from __future__ import annotations

import asyncio
import copy
import pickle
import traceback
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.buyer import COLOURS, Colour
from tests.facade import facade
from x402sms.api_keys import ApiKey
from x402sms.bearer import AsyncBearerTransport, BearerTransport
from x402sms.errors import ConfigError, HostNotReachable, PaymentUnknown, Unauthorized

# Put together, so that the text itself stands in no line of a traceback.
KEY = "sk_live_" + "Qx7v" * 6
BASE = "https://api.example/api/v2"

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(params=COLOURS)
def colour(request: pytest.FixtureRequest) -> Colour:
    colour: Colour = request.param
    return colour


class Inner(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Notes what is sent, as it goes out."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.sent: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        return self._answer(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)

    @property
    def keys(self) -> list[str | None]:
        return [request.headers.get("authorization") for request in self.sent]


def no_services(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json=[])


def client(colour: Colour, inner: Any, **settings: Any) -> Any:
    given = {"base_url": BASE, "ledger": ":memory:", "transport": inner}
    return facade(colour, api_key=ApiKey(KEY), requests_per_minute=None, **(given | settings))


def send(colour: Colour, inner: Any, url: str, **options: Any) -> httpx.Response:
    """Through the transport alone, by a client that follows redirects."""
    key = ApiKey(KEY)
    if colour == "sync":
        with httpx.Client(
            transport=BearerTransport(key, BASE, inner), follow_redirects=True
        ) as http:
            return http.get(url, **options)

    async def sent() -> httpx.Response:
        transport = AsyncBearerTransport(key, BASE, inner)
        async with httpx.AsyncClient(transport=transport, follow_redirects=True) as http:
            return await http.get(url, **options)

    return asyncio.run(sent())


# --- where it goes


def test_each_request_shows_it_and_the_callers_own_never_has_it(colour: Colour) -> None:
    inner = Inner(lambda request: httpx.Response(401, json={"error": "unknown key"}))
    with client(colour, inner) as sms, pytest.raises(Unauthorized) as caught:
        sms.services.list()
    assert inner.keys == [f"Bearer {KEY}"]
    response = caught.value.response
    assert response is not None
    assert "authorization" not in response.request.headers


ELSEWHERE = {
    "another host": "https://other.example/api/v2/services",
    "a host below": "https://x.api.example/api/v2/services",
    "a host that begins so": "https://api.example.evil.example/services",
    "another port": "https://api.example:8443/api/v2/services",
    "in the clear": "http://api.example/api/v2/services",
    "the host as a user": "https://api.example@other.example/services",
}


@pytest.mark.parametrize("url", ELSEWHERE.values(), ids=ELSEWHERE)
@pytest.mark.parametrize("way", ["asked for", "redirected to"])
def test_another_origin_never_gets_it(way: str, url: str, colour: Colour) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if str(request.url) == f"{BASE}/begin":
            return httpx.Response(307, headers={"Location": url})
        return httpx.Response(200)

    inner = Inner(answer)
    send(colour, inner, url if way == "asked for" else f"{BASE}/begin")
    first = [f"Bearer {KEY}"] if way == "redirected to" else []
    assert inner.keys[:-1] == first
    assert KEY not in str(inner.sent[-1].headers.raw)


@pytest.mark.parametrize("url", ["https://API.example:443/api/v2/x", "https://api.example/other"])
def test_the_same_origin_written_otherwise_does(url: str, colour: Colour) -> None:
    inner = Inner(lambda request: httpx.Response(200))
    send(colour, inner, url)
    assert inner.keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_client_follows_no_redirect_with_it(status: int, colour: Colour) -> None:
    there = {"Location": "https://other.example/api/v2/services"}
    inner = Inner(lambda request: httpx.Response(status, headers=there))
    with client(colour, inner) as sms, pytest.raises(Exception, match=str(status)):
        sms.services.list()
    assert len(inner.sent) == 1


@pytest.mark.parametrize(
    "base_url", ["http://10.0.0.7/api/v2", "http://api.example/api/v2", "http://localhost.evil/x"]
)
def test_it_is_not_sent_in_the_clear_to_another_machine(base_url: str, colour: Colour) -> None:
    inner = Inner(no_services)
    with (
        pytest.raises(ConfigError, match="over https only"),
        client(colour, inner, base_url=base_url),
    ):
        pass
    assert inner.sent == []


@pytest.mark.parametrize("host", ["127.0.0.1:8402", "localhost", "[::1]:8402"])
def test_this_machine_is_reached_without_tls(host: str, colour: Colour) -> None:
    inner = Inner(no_services)
    with client(colour, inner, base_url=f"http://{host}/api/v2") as sms:
        sms.services.list()
    assert inner.keys == [f"Bearer {KEY}"]


# --- no answer

LOST = (httpx.ReadError, httpx.ReadTimeout, httpx.WriteTimeout, httpx.RemoteProtocolError)
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@pytest.mark.parametrize("error", [*LOST, *NOT_SENT], ids=lambda error: error.__name__)
def test_what_is_lost_is_not_sent_again(error: type[httpx.TransportError], colour: Colour) -> None:
    def lost(request: httpx.Request) -> httpx.Response:
        raise error("lost")

    inner = Inner(lost)
    with client(colour, inner) as sms:
        with pytest.raises(HostNotReachable):
            sms.services.list()
        with pytest.raises(PaymentUnknown if error in LOST else HostNotReachable) as caught:
            sms.orders.swap("ord_1")
    assert len(inner.sent) == 2
    assert "POST /api/v2/orders/ord_1/swap" in str(caught.value)


# --- what may be seen of it


def _shown(error: BaseException) -> list[str]:
    """An error, its causes, and the locals of all their frames; those of tests are no news."""
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    seen: list[str] = []
    link: traceback.TracebackException | None = whole
    while link is not None:
        frames = [frame for frame in link.stack if "/tests/" not in frame.filename]
        seen += [str(link), *(f"{frame.name} {frame.locals}" for frame in frames)]
        link = link.__cause__ or link.__context__
    return seen


def _requests_of(error: BaseException | None) -> list[httpx.Request]:
    found = []
    while error is not None:
        if isinstance(error, httpx.RequestError):
            found.append(error.request)
        error = error.__cause__ or error.__context__
    return found


def _writes(sent: bytes, how: str) -> None:
    """As deep in a library as frames get that have the bytes of the headers."""
    namespace: dict[str, Any] = {"failures": {"httpx": httpx.WriteTimeout, "another": Fault}}
    code = "def write(buffer, how):\n    raise failures[how]('stopped')\n"
    exec(compile(code, "/a/library.py", "exec"), namespace)  # noqa: S102  a frame of no test
    namespace["write"](sent, how)


class Fault(Exception):
    """Of a library, and none of httpx's."""


@pytest.mark.parametrize("how", ["httpx", "another"])
@pytest.mark.parametrize("buys", [False, True], ids=["GET", "POST"])
def test_it_is_in_no_frame_and_no_request_of_an_error(buys: bool, how: str, colour: Colour) -> None:
    def stopped(request: httpx.Request) -> httpx.Response:
        try:
            _writes(str(request.headers.raw).encode(), how)
        except httpx.WriteTimeout as error:
            raise httpx.WriteTimeout("stopped", request=request) from error
        raise AssertionError

    kinds = (Fault, HostNotReachable, PaymentUnknown)
    with client(colour, Inner(stopped)) as sms, pytest.raises(kinds) as caught:
        sms.orders.cancel("ord_1") if buys else sms.services.list()
    assert all(KEY not in text for text in _shown(caught.value))
    for request in _requests_of(caught.value):
        assert "authorization" not in request.headers


def test_the_frames_of_what_the_caller_was_handling_stay(colour: Colour) -> None:
    def lost(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("lost")

    handled = RuntimeError("the form has changed")
    with client(colour, Inner(lost)) as sms:
        try:
            raise handled
        except RuntimeError:
            with pytest.raises(HostNotReachable):
                sms.services.list()
    assert handled.__traceback__ is not None


def test_it_is_in_nothing_that_a_client_shows_of_itself(colour: Colour) -> None:
    with client(colour, Inner(no_services)) as sms:
        own = sms._target
        transport = own._http._transport
        parts = [own, own.api_key, own.books, own.settings, transport, transport._bearer]
        for part in parts:
            held = str(vars(part)) if hasattr(part, "__dict__") else ""
            assert KEY not in repr(part) + str(part) + f"{part}" + held
        for part in (own.api_key, own.books, own):
            with pytest.raises(TypeError):
                pickle.dumps(part)
            with pytest.raises(TypeError):
                copy.deepcopy(part)


@pytest.mark.parametrize("key", ["", "short", "with space inside", "sk_ümlaut_1234", "x" * 201])
def test_a_key_that_cannot_be_one_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigError, match="not shown") as caught:
        ApiKey(key)
    assert not key or key not in str(caught.value)
    ours = [text for text in _shown(caught.value) if text.startswith("__init__")]
    assert ours
    assert not key or all(key not in text for text in ours)
