"""What a server may send to be paid more, elsewhere, for longer, or to break the reader."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from eth_account.messages import encode_typed_data

from tests.protocol.parts import (
    NOW,
    RECIPIENT,
    STRANGER,
    TTL,
    WALLET,
    Said,
    b64,
    example,
    example_message,
    gzip,
    play,
    purchase,
    settled,
    together,
    v1,
    v1_entry,
    v1_message,
    v2,
    v2_entry,
    v2_message,
)
from x402sms.errors import (
    ChallengeError,
    InsecureOrigin,
    NoAcceptableOffer,
    PaymentError,
    SpendLimitExceeded,
)
from x402sms.limits import SpendLimits
from x402sms.money import UINT256_MAX
from x402sms.protocol.body import MAX_BYTES
from x402sms.protocol.effects import Reserve, Send, Sign
from x402sms.protocol.eip3009 import Authorization
from x402sms.protocol.keccak import ZERO_ADDRESS, keccak256
from x402sms.protocol.networks import BASE, BASE_SEPOLIA
from x402sms.protocol.quote import challenge_body
from x402sms.protocol.selection import select
from x402sms.protocol.types import Offer
from x402sms.protocol.wire import Headers, parse_challenge

V2_HEADER = "header payment-required"
EXAMPLE_HEADER = "header x-payment-required"
TEN_YEARS = 315_360_000


@dataclass(frozen=True)
class Malformed:
    field: str


@dataclass(frozen=True)
class NothingPayable:
    why: str


@dataclass(frozen=True)
class OverLimit:
    limit: str = "per_call"


@dataclass(frozen=True)
class NotAChallenge:
    """Handed through: the caller reads it as any other answer."""


@dataclass(frozen=True)
class Paid:
    """Paid, on our terms: this much to the recipient, on Base, good for this long."""

    amount_atomic: int = 10_000
    seconds: int = 60
    header: str = "PAYMENT-SIGNATURE"


End = Malformed | NothingPayable | OverLimit | NotAChallenge | Paid
Table = Iterator[tuple[str, Said, End]]


def without(message: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != key}


def nested(levels: int, bracket: str = "[") -> str:
    if bracket == "[":
        return "[" * levels + "]" * levels
    return '{"a":' * (levels - 1) + "{}" + "}" * (levels - 1)


def with_extra(text: str) -> str:
    """A v2 challenge with this JSON text as `extra.x`."""
    return json.dumps(v2_message(v2_entry(extra={"x": "HERE"}))).replace('"HERE"', text)


def base64_that(holds: str) -> str:
    """A good challenge whose base64 has this in it; spaces are padding that JSON allows."""
    for url in ("https://seller.example/?>?", "https://seller.example/>>>", "~~~???>>>"):
        for spaces in range(3):
            value = b64(json.dumps(v2_message(resource={"url": url})) + " " * spaces)
            if holds in value:
                return value
    raise AssertionError(f"no base64 with {holds} in it")


def trailing_bits(value: str) -> str:
    """Set bits under the padding: decoders drop them, so one text has many spellings."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    body = value.rstrip("=")
    return body[:-1] + alphabet[alphabet.index(body[-1]) + 1] + value[len(body) :]


BAD_ATOMIC: dict[str, object] = {
    "underscores": "1_000",
    "spaces around": " 7 ",
    "newline after": "7\n",
    "exponent": "1e3",
    "negative": "-5",
    "minus zero": "-0",
    "plus sign": "+5",
    "full-width digits": "\uff11\uff10\uff10\uff10",
    "arabic digits": "\u0661\u0660\u0660\u0660",
    "superscript": "1\u00b2",
    "hexadecimal": "0x10",
    "decimal point": "10.0",
    "thousands": "10,000",
    "leading zeros": "010000",
    "empty": "",
    "2^256": str(UINT256_MAX + 1),
    "79 digits": "1" * 79,
    "5000 digits": "9" * 5000,
    "lone surrogate": "\ud800",
    "nul": "1\0",
    "an int": 10_000,
    "a float": 10000.0,
    "true": True,
    "null": None,
    "a list": ["10000"],
    "an object": {"amount": "10000"},
}
BAD_DECIMAL: dict[str, object] = {
    "underscores": "1_0",
    "spaces around": " 0.01 ",
    "exponent": "1e-2",
    "negative": "-0.01",
    "plus sign": "+0.01",
    "full-width digits": "\uff10.\uff10\uff11",
    "seven places": "0.0000001",
    "no whole part": ".01",
    "no fraction": "1.",
    "comma": "0,01",
    "dollar": "$0.01",
    "leading zeros": "00.01",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "empty": "",
    "beyond uint256": "9" * 72,
    "a float": 0.01,
    "an int": 1,
    "true": True,
    "null": None,
}
BAD_SECONDS: dict[str, object] = {
    "zero": 0,
    "negative": -60,
    "true": True,
    "false": False,
    "a string": "60",
    "a float": 60.0,
    "null": None,
}
BAD_ADDRESS: dict[str, object] = {
    "zero address": ZERO_ADDRESS,
    "wrong EIP-55 capitals": RECIPIENT.replace("C51812dc", "c51812Dc"),
    "one digit short": RECIPIENT[:-1],
    "one digit long": RECIPIENT + "0",
    "no 0x": RECIPIENT[2:],
    "0X": "0X" + RECIPIENT[2:],
    "a name": "vitalik.eth",
    "full-width digits": "0x" + "\uff17" * 40,
    "newline after": RECIPIENT + "\n",
    "a number": 5,
    "null": None,
}


def sizes_and_depths() -> Table:
    filler = "x" * (MAX_BYTES + 1)
    yield "v2 header over 64 KiB", v2(v2_message(resource={"url": filler})), Malformed(V2_HEADER)
    yield "v1 body over 64 KiB", v1(v1_message(error=filler)), Malformed("body")
    yield (
        "example header over 64 KiB",
        example(example_message(note=filler)),
        Malformed(EXAMPLE_HEADER),
    )
    many = [v2_entry()] * 33
    yield "v2 33 offers", v2(v2_message(*many)), Malformed("accepts")
    yield "v1 33 offers", v1(v1_message(*[v1_entry()] * 33)), Malformed("accepts")
    yield "v2 no offers", v2(v2_message(accepts=[])), Malformed("accepts")
    yield "v1 no offers", v1(v1_message(accepts=[])), Malformed("accepts")
    for levels in (31, 33, 200):
        yield f"v2 extra nested {levels}", v2(b64(with_extra(nested(levels)))), Malformed(V2_HEADER)
    yield "v2 33 levels in all", v2(b64(with_extra(nested(29)))), Malformed(V2_HEADER)
    yield "v2 32 levels in all", v2(b64(with_extra(nested(28)))), Paid()
    yield "v2 objects nested 40", v2(b64(with_extra(nested(40, "{")))), Malformed(V2_HEADER)
    yield "v2 nothing but 33 lists", v2(b64(nested(33))), Malformed(V2_HEADER)
    yield "v2 nothing but 32 lists", v2(b64(nested(32))), Malformed("challenge")
    yield "v2 100 000 brackets", v2(b64("[" * 100_000)), Malformed(V2_HEADER)
    yield "v2 45 000 brackets", v2(b64("[" * 45_000)), Malformed(V2_HEADER)
    brackets = b'{"x402Version":' + b"[" * 60_000
    yield "v1 60 000 brackets", v1(brackets), Malformed("body")
    yield "v1 100 000 brackets", v1(b'{"x402Version":' + b"[" * 100_000), Malformed("body")
    yield "example 60 000 brackets", example("[" * 60_000), Malformed(EXAMPLE_HEADER)
    yield (
        "v2 brackets in a string are not levels",
        v2(v2_message(v2_entry(extra={"x": '[{"' * 60}))),
        Paid(),
    )
    long_text = "x" * 2049
    yield (
        "v2 long scheme",
        v2(v2_message(v2_entry(scheme=long_text))),
        Malformed("accepts[0].scheme"),
    )
    yield "v2 long error", v2(v2_message(error=long_text)), Malformed("error")


def numbers() -> Table:
    for name, bad in BAD_ATOMIC.items():
        field = Malformed("accepts[0].amount")
        yield f"v2 amount {name}", v2(v2_message(v2_entry(amount=bad))), field
        field = Malformed("accepts[0].maxAmountRequired")
        yield f"v1 amount {name}", v1(v1_message(v1_entry(maxAmountRequired=bad))), field
    for name, bad in BAD_DECIMAL.items():
        yield f"example amount {name}", example(example_message(amount=bad)), Malformed("amount")
    for name, bad in BAD_SECONDS.items():
        field = Malformed("accepts[0].maxTimeoutSeconds")
        yield f"v2 timeout {name}", v2(v2_message(v2_entry(maxTimeoutSeconds=bad))), field
        yield f"v1 timeout {name}", v1(v1_message(v1_entry(maxTimeoutSeconds=bad))), field
    most = str(UINT256_MAX)
    yield "v2 amount 2^256-1", v2(v2_message(v2_entry(amount=most))), OverLimit()
    yield "v1 amount 2^256-1", v1(v1_message(v1_entry(maxAmountRequired=most))), OverLimit()
    yield "v2 one unit over", v2(v2_message(v2_entry(amount="1000001"))), OverLimit()
    yield "v2 just the limit", v2(v2_message(v2_entry(amount="1000000"))), Paid(1_000_000)
    yield "example $950", example(example_message(amount="950")), OverLimit()
    yield "v2 nothing", v2(v2_message(v2_entry(amount="0"))), Paid(0)
    for dialect, said, header in (
        ("v2", v2(v2_message(v2_entry(maxTimeoutSeconds=TEN_YEARS))), "PAYMENT-SIGNATURE"),
        ("v1", v1(v1_message(v1_entry(maxTimeoutSeconds=TEN_YEARS))), "X-PAYMENT"),
    ):
        yield f"{dialect} good for ten years", said, Paid(seconds=TTL, header=header)
    yield (
        "v2 good for 10^4000 s",
        v2(v2_message(v2_entry(maxTimeoutSeconds=10**4000))),
        Paid(seconds=TTL),
    )
    yield "v2 good for 1 s", v2(v2_message(v2_entry(maxTimeoutSeconds=1))), Paid(seconds=30)
    digits = "9" * 5000
    yield "v2 an int of 5000 digits", v2(b64(with_extra(digits))), Malformed(V2_HEADER)
    yield (
        "v1 an int of 5000 digits",
        v1(b'{"x402Version": ' + digits.encode() + b"}"),
        Malformed("body"),
    )
    for word in ("NaN", "Infinity", "-Infinity"):
        yield f"v2 {word}", v2(b64(with_extra(word))), Malformed(V2_HEADER)
        yield f"example {word}", example(f'{{"amount": {word}}}'), Malformed(EXAMPLE_HEADER)
    # Python reads it as infinity, and would write it back as `Infinity`, which is not JSON.
    yield "v2 a float beyond floats", v2(b64(with_extra("1e999"))), Malformed(V2_HEADER)
    yield "v2 a negative one", v2(b64(with_extra("-1e999"))), Malformed(V2_HEADER)


def missing_fields() -> Table:
    for key in ("scheme", "network", "amount", "asset", "payTo", "maxTimeoutSeconds"):
        said = v2(v2_message(without(v2_entry(), key)))
        yield f"v2 without {key}", said, Malformed(f"accepts[0].{key}")
    for key in ("scheme", "network", "maxAmountRequired", "asset", "payTo", "maxTimeoutSeconds"):
        said = v1(v1_message(without(v1_entry(), key)))
        yield f"v1 without {key}", said, Malformed(f"accepts[0].{key}")
    for key in ("amount", "asset", "chain", "recipient"):
        yield f"example without {key}", example(without(example_message(), key)), Malformed(key)
    for key in ("x402Version", "accepts"):
        yield f"v2 without {key}", v2(without(v2_message(), key)), Malformed(key)
    yield "v1 without accepts", v1(without(v1_message(), "accepts")), Malformed("accepts")
    yield (
        "v1 without x402Version is other JSON",
        v1(without(v1_message(), "x402Version")),
        NotAChallenge(),
    )


NO_TEXT: dict[str, object] = {"a number": 5, "null": None, "a list": ["exact"], "true": True}
NO_LIST: dict[str, object] = {"an object": {}, "a string": "x", "null": None, "a number": 1}
NO_OBJECT: dict[str, object] = {"a list": [], "a string": "x", "a number": 0, "false": False}
NO_TWO: dict[str, object] = {"text": "2", "1": 1, "true": True, "float": 2.0, "null": None}
NO_ONE: dict[str, object] = {"text": "1", "2": 2, "true": True, "float": 1.0}


def wrong_types() -> Table:
    for name, bad in NO_TEXT.items():
        for key in ("scheme", "network", "asset", "payTo"):
            field = Malformed(f"accepts[0].{key}")
            yield f"v2 {key} is {name}", v2(v2_message(v2_entry(**{key: bad}))), field
        for key in ("asset", "chain", "recipient"):
            yield (
                f"example {key} is {name}",
                example(example_message(**{key: bad})),
                Malformed(key),
            )
    for name, bad in NO_LIST.items():
        yield f"v2 accepts is {name}", v2(v2_message(accepts=bad)), Malformed("accepts")
    for name, bad in (NO_OBJECT | {"null": None}).items():
        yield (
            f"v2 second entry is {name}",
            v2(v2_message(v2_entry(), bad)),
            Malformed("accepts[1]"),
        )
    for key in ("resource", "extensions"):
        for name, bad in NO_OBJECT.items():
            yield f"v2 {key} is {name}", v2(v2_message(**{key: bad})), Malformed(key)
    yield "v2 error is a list", v2(v2_message(error=["no"])), Malformed("error")
    yield "v2 extra is a list", v2(v2_message(v2_entry(extra=["x"]))), Malformed("accepts[0].extra")


def wrong_versions() -> Table:
    for name, bad in NO_TWO.items():
        yield f"v2 version is {name}", v2(v2_message(x402Version=bad)), Malformed("x402Version")
    for name, bad in NO_ONE.items():
        yield f"v1 version is {name}", v1(v1_message(x402Version=bad)), Malformed("x402Version")
    for name, text in {"a list": "[]", "a string": '"x"', "null": "null", "1": "1"}.items():
        yield f"v2 is {name}", v2(b64(text)), Malformed("challenge")
        yield f"example is {name}", example(text), Malformed("challenge")
    yield "v1 is a list", v1(b'["x402Version"]'), Malformed("challenge")


def sent_twice() -> Table:
    twice = json.dumps(v2_entry())[:-1] + ', "amount": "1"}'
    yield (
        "v2 amount twice",
        v2(b64(f'{{"x402Version": 2, "accepts": [{twice}]}}')),
        Malformed(V2_HEADER),
    )
    text = json.dumps(v2_message())
    yield (
        "v2 accepts twice, once spelled with an escape",
        v2(b64(text[:-1] + r', "\u0061ccepts": []}')),
        Malformed(V2_HEADER),
    )
    text = json.dumps(v1_message())
    yield "v1 accepts twice", v1(f'{text[:-1]}, "accepts": []}}'.encode()), Malformed("body")
    text = json.dumps(example_message())
    yield "example amount twice", example(text[:-1] + ', "amount": "9"}'), Malformed(EXAMPLE_HEADER)
    yield "v2 header sent twice", together(v2(), v2()), Malformed(V2_HEADER)
    yield "example header sent twice", together(example(), example()), Malformed(EXAMPLE_HEADER)


def encodings() -> Table:
    good = base64_that("==")
    yield "v2 url-safe - for +", v2(base64_that("+").replace("+", "-")), Malformed(V2_HEADER)
    yield "v2 url-safe _ for /", v2(base64_that("/").replace("/", "_")), Malformed(V2_HEADER)
    yield "v2 padding missing", v2(good.rstrip("=")), Malformed(V2_HEADER)
    yield "v2 padding doubled", v2(good + "=="), Malformed(V2_HEADER)
    yield "v2 trailing bits", v2(trailing_bits(good)), Malformed(V2_HEADER)
    yield "v2 space within", v2(good[:8] + " " + good[8:]), Malformed(V2_HEADER)
    yield "v2 newline at the end", v2(good + "\n"), Malformed(V2_HEADER)
    yield "v2 two texts joined", v2(good + good), Malformed(V2_HEADER)
    yield "v2 not ASCII", v2("\u00e9" + good), Malformed(V2_HEADER)
    yield "v2 full-width letters", v2("\uff21" * 8), Malformed(V2_HEADER)
    yield "v2 plain JSON", v2(json.dumps(v2_message())), Malformed(V2_HEADER)
    yield "v2 empty", v2(""), Malformed(V2_HEADER)
    yield "v2 not UTF-8", v2(b64(b'{"x402Version": 2, "error": "\xff"}')), Malformed(V2_HEADER)
    yield "v2 surrogate in UTF-8", v2(b64(b'{"error": "\xed\xa0\x80"}')), Malformed(V2_HEADER)
    yield "v2 UTF-16", v2(b64(json.dumps(v2_message()).encode("utf-16"))), Malformed(V2_HEADER)
    bom = b"\xef\xbb\xbf" + json.dumps(v2_message()).encode()
    yield "v2 with a byte order mark", v2(b64(bom)), Malformed(V2_HEADER)
    yield "v2 cut JSON", v2(b64(json.dumps(v2_message())[:-1])), Malformed(V2_HEADER)
    yield "v2 more after the JSON", v2(b64(json.dumps(v2_message()) + "{}")), Malformed(V2_HEADER)
    yield "v2 with comments", v2(b64(json.dumps(v2_message()) + "// x")), Malformed(V2_HEADER)
    yield "v1 not UTF-8", v1(b'{"x402Version": 1, "error": "\xff"}'), Malformed("body")
    yield "v1 cut JSON", v1(b'{"x402Version": 1'), Malformed("body")
    yield "v1 UTF-16 is other text", v1(json.dumps(v1_message()).encode("utf-16")), NotAChallenge()
    yield "example cut JSON", example('{"amount": "0.01"'), Malformed(EXAMPLE_HEADER)
    yield "example empty", example(""), Malformed(EXAMPLE_HEADER)
    yield "example base64", example(b64(example_message())), Malformed(EXAMPLE_HEADER)
    yield (
        "v2 lone surrogate where text is only echoed",
        v2(b64(with_extra(r'"\ud800"'))),
        Paid(),
    )
    yield (
        "v2 lone surrogate in the network",
        v2(v2_message(v2_entry(network="eip155:\ud800"))),
        NothingPayable("not a network"),
    )
    packed = gzip(json.dumps(v1_message()).encode())
    yield "v1 gzip", v1(packed, coding="gzip"), Paid(header="X-PAYMENT")
    yield "v1 gzip in capitals", v1(packed, coding=" GZip "), Paid(header="X-PAYMENT")
    deflated = zlib.compress(json.dumps(v1_message()).encode())
    yield "v1 deflate", v1(deflated, coding="deflate"), Paid(header="X-PAYMENT")
    bomb = gzip(b'{"x402Version": 1, "error": "' + b"0" * 50_000_000 + b'"}')
    assert len(bomb) < MAX_BYTES
    yield "v1 gzip bomb of 50 MB", v1(bomb, coding="gzip"), Malformed("body")
    yield "v1 gzip damaged", v1(b"\x1f\x8b" + packed[9:], coding="gzip"), Malformed("body")
    bad_sum = packed[:-8] + bytes((packed[-8] ^ 1,)) + packed[-7:]
    yield "v1 gzip with a wrong checksum", v1(bad_sum, coding="gzip"), Malformed("body")
    yield "v1 gzip cut short", v1(packed[:-9], coding="gzip"), Malformed("body")
    yield "v1 gzip of nothing", v1(b"", coding="gzip"), Malformed("body")
    yield "v1 said gzip, is not", v1(coding="gzip"), Malformed("body")
    yield "v1 said deflate, is gzip", v1(packed, coding="deflate"), Malformed("body")
    yield "v1 gzip twice", v1(gzip(packed), coding="gzip, gzip"), Malformed("body")
    yield "v1 unknown coding", v1(packed, coding="compress"), Malformed("body")


def terms() -> Table:
    for name, bad in BAD_ADDRESS.items():
        field = Malformed("accepts[0].payTo")
        yield f"v2 payTo {name}", v2(v2_message(v2_entry(payTo=bad))), field
        yield f"v1 payTo {name}", v1(v1_message(v1_entry(payTo=bad))), field
        yield f"v2 asset {name}", v2(v2_message(v2_entry(asset=bad))), Malformed("accepts[0].asset")
        said = example(example_message(recipient=bad))
        yield f"example recipient {name}", said, Malformed("recipient")
    ours = {
        "chainId": {"chainId": 1},
        "verifyingContract": {"verifyingContract": STRANGER},
        "name": {"name": "Evil Coin", "version": "9"},
        "name that is no text": {"name": 5, "version": None},
        "decimals 18": {"decimals": 18},
        "salt": {"salt": "0x" + "00" * 32},
    }
    for name, extra in ours.items():
        yield f"v2 extra {name}", v2(v2_message(v2_entry(extra=extra))), Paid()
        said = v1(v1_message(v1_entry(extra=extra)))
        yield f"v1 extra {name}", said, Paid(header="X-PAYMENT")
    dear = v2_entry(amount="1000001", extra={"decimals": 18})
    yield "v2 decimals 18 past the cap", v2(v2_message(dear)), OverLimit()
    permit2 = {"assetTransferMethod": "permit2"}
    why = NothingPayable("not by EIP-3009")
    yield "v2 Permit2", v2(v2_message(v2_entry(extra=permit2))), why
    yield "v1 Permit2", v1(v1_message(v1_entry(extra=permit2))), why
    mixed = v2_message(v2_entry(amount="1", extra=permit2), v2_entry(amount="20000"))
    yield "v2 Permit2 is cheaper", v2(mixed), Paid(20_000)
    for name, bad in {"a number": 1, "a list": ["eip3009"]}.items():
        said = v2(v2_message(v2_entry(extra={"assetTransferMethod": bad})))
        yield f"v2 transfer method {name}", said, Malformed("accepts[0].extra.assetTransferMethod")
    eip3009 = {"assetTransferMethod": "eip3009"}
    yield "v2 EIP-3009 by name", v2(v2_message(v2_entry(extra=eip3009))), Paid()
    why = NothingPayable("not USDC's contract")
    yield "v2 another token", v2(v2_message(v2_entry(asset=STRANGER))), why
    yield "v1 another token", v1(v1_message(v1_entry(asset=STRANGER))), why
    yield "v2 Sepolia's token", v2(v2_message(v2_entry(asset=BASE_SEPOLIA.usdc))), why
    yield "example another token", example(example_message(asset="USDT")), why
    yield "example usdc", example(example_message(asset="usdc")), why
    yield "example token by address", example(example_message(asset=BASE.usdc)), why
    yield (
        "v2 token by symbol",
        v2(v2_message(v2_entry(asset="USDC"))),
        Malformed("accepts[0].asset"),
    )
    why = NothingPayable("not a network x402sms pays on")
    for network in (
        "eip155:1",
        "eip155:08453",
        "eip155:8453 ",
        "BASE",
        "solana:101",
        "",
        "ethereum",
    ):
        yield f"v2 network {network!r}", v2(v2_message(v2_entry(network=network))), why
    yield "example chain Base", example(example_message(chain="Base")), why
    other = NothingPayable("this wallet is set to base")
    sepolia = v2_entry(network="eip155:84532", asset=BASE_SEPOLIA.usdc)
    yield "v2 Sepolia", v2(v2_message(sepolia)), other
    yield "example Sepolia", example(example_message(chain="base-sepolia")), other
    why = NothingPayable("names this network")
    yield "v2 with v1's name", v2(v2_message(v2_entry(network="base"))), why
    yield "v1 with v2's name", v1(v1_message(v1_entry(network="eip155:8453"))), why
    yield "example with v2's name", example(example_message(chain="eip155:8453")), why
    why = NothingPayable("not the scheme exact")
    for scheme in ("upto", "EXACT", "exact ", ""):
        yield f"v2 scheme {scheme!r}", v2(v2_message(v2_entry(scheme=scheme))), why
        yield f"v1 scheme {scheme!r}", v1(v1_message(v1_entry(scheme=scheme))), why
    lower = v2_entry(payTo=RECIPIENT.lower(), asset=BASE.usdc.lower())
    yield "v2 addresses without capitals", v2(v2_message(lower)), Paid()


def dialects() -> Table:
    disagree = Malformed("challenge")
    dear, elsewhere = v1_entry(maxAmountRequired="20000"), v1_entry(payTo=STRANGER)
    yield "v2 and v1 disagree on the amount", together(v2(), v1(v1_message(dear))), disagree
    yield "v2 and v1 disagree on who", together(v2(), v1(v1_message(elsewhere))), disagree
    cheap = example(example_message(amount="0.009999"))
    yield "v2 and the example disagree on the amount", together(v2(), cheap), disagree
    stranger = example(example_message(recipient=STRANGER))
    yield "v2 and the example disagree on who", together(v2(), stranger), disagree
    yield "v1 and the example disagree on the amount", together(v1(), cheap), disagree
    yield "v1 and the example disagree on who", together(v1(), stranger), disagree
    yield "the third of three disagrees", together(v2(), v1(), stranger), disagree
    more = v2_message(v2_entry(), v2_entry(amount="1"))
    yield "v2 offers more than v1", together(v2(more), v1()), disagree
    yield (
        "the other one is malformed",
        together(v2(), v1(v1_message(v1_entry(payTo="me")))),
        Malformed("accepts[0].payTo"),
    )
    yield "all three agree", together(v2(), v1(), example()), Paid()
    yield "v1 and the example agree", together(v1(), example()), Paid(header="X-PAYMENT")
    elsewhere = v2_entry(network="solana:mainnet", asset="EPjF", payTo="9xQe", amount="1")
    wider = v2(v2_message(v2_entry(), elsewhere))
    yield "v2 offers more, on another chain", together(wider, v1()), Paid()
    sepolia = example(example_message(chain="base-sepolia", amount="5"))
    yield "they speak of different chains", together(v2(), sepolia), Paid()
    copy = v1(json.dumps(v2_message(v2_entry(amount="1"))).encode())
    yield "the body is a copy of v2 for people", together(v2(), copy), Paid()
    html = Said(402, (("Content-Type", "text/html"),), json.dumps(v1_message()).encode())
    yield "a v1 body that says it is HTML", html, NotAChallenge()
    yield "v2 beside a page of 1 MB", together(v2(), Said(402, html.headers, b"x" * 2**20)), Paid()
    bare = Said(402, (), json.dumps(v1_message()).encode())
    yield "a v1 body of no stated type", bare, Paid(header="X-PAYMENT")
    problem = Said(
        402,
        (("Content-Type", "application/problem+json"),),
        b'{"type": "https://api.example/problems/insufficient-balance", "status": 402}',
    )
    yield "a problem document", problem, NotAChallenge()
    yield "402 with nothing", Said(402), NotAChallenge()
    yield "v2 with status 200", v2(status=200), NotAChallenge()
    yield "v2 with status 401", v2(status=401), NotAChallenge()
    yield "v1 with status 400", v1(status=400), NotAChallenge()
    yield "example: good", example(), Paid(seconds=TTL, header="X-PAYMENT")
    yield "v1: good", v1(), Paid(header="X-PAYMENT")
    yield "v2: good", v2(), Paid()


PARTS = (
    sizes_and_depths,
    numbers,
    missing_fields,
    wrong_types,
    wrong_versions,
    sent_twice,
    encodings,
    terms,
    dialects,
)
CASES = [pytest.param(said, end, id=name) for part in PARTS for name, said, end in part()]


def test_the_table_is_long_and_every_line_has_a_name_of_its_own() -> None:
    assert len(CASES) >= 60
    assert len({case.id for case in CASES}) == len(CASES)


def offer_in(said: Said) -> Offer | None:
    """What the reader makes of it, without the flow."""
    headers = Headers(said.headers)
    if said.status != 402 or not (headers.has_challenge() or headers.may_carry_challenge_body()):
        return None
    body = challenge_body(headers, said.body)
    challenge = parse_challenge(headers, body)
    if challenge is None:
        return None
    offer = select(challenge, BASE)
    SpendLimits().check(offer, intent="invoice-7")
    return offer


@pytest.mark.parametrize(("said", "end"), CASES)
def test_a_hostile_challenge_is_read_as_documented(said: Said, end: End) -> None:
    if isinstance(end, Paid):
        offer = offer_in(said)
        assert offer is not None
        assert (offer.network, offer.pay_to) == (BASE, RECIPIENT)
        assert offer.amount_atomic == end.amount_atomic
    elif isinstance(end, NotAChallenge):
        assert offer_in(said) is None
    else:
        with pytest.raises(PaymentError) as caught:
            offer_in(said)
        assert_is(caught.value, end)


@pytest.mark.parametrize(("said", "end"), CASES)
def test_a_hostile_challenge_gets_nothing_signed_that_is_not_ours(said: Said, end: End) -> None:
    played = play([said, settled()])
    driver = played.driver
    if isinstance(end, Paid):
        assert played.error is None
        assert_ours(played.authorization, end)
        assert len(driver.all_of(Send)) == 2
        assert played.paid_header[0] == end.header
        assert json.loads(base64.b64decode(played.paid_header[1]))["payload"]["authorization"][
            "value"
        ] == str(end.amount_atomic)
        return
    assert not driver.all_of(Sign)
    assert not driver.all_of(Reserve)
    assert len(driver.all_of(Send)) == 1
    if isinstance(end, NotAChallenge):
        assert (played.error, played.receipt) == (None, None)
    else:
        assert_is(played.error, end)


def assert_ours(authorization: Authorization, end: Paid) -> None:
    """Domain, contract, chain, recipient, amount and window are the table's and the limits'."""
    assert authorization.network is BASE
    assert authorization.domain_data() == {
        "name": "USD Coin",
        "version": "2",
        "chainId": 8453,
        "verifyingContract": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
    }
    assert authorization.payer == WALLET.address
    assert authorization.pay_to == RECIPIENT
    assert authorization.amount_atomic == end.amount_atomic
    assert authorization.valid_after == NOW - 600
    assert authorization.valid_before == NOW + end.seconds <= NOW + TTL
    message = encode_typed_data(
        authorization.domain_data(), authorization.message_types(), authorization.message_data()
    )
    assert authorization.digest() == keccak256(
        b"\x19" + message.version + message.header + message.body
    )


def assert_is(error: BaseException | None, end: Malformed | NothingPayable | OverLimit) -> None:
    match end:
        case Malformed():
            assert isinstance(error, ChallengeError), error
            assert error.field == end.field
            assert end.field in str(error)
        case NothingPayable():
            assert isinstance(error, NoAcceptableOffer), error
            assert error.offered
            assert all(end.why in offered for offered in error.offered)
            assert end.why in str(error)
        case OverLimit():
            assert isinstance(error, SpendLimitExceeded), error
            assert error.limit == end.limit
    assert len(str(error)) < 1000
    assert str(error).isprintable()


def test_a_request_over_plain_http_signs_nothing_whatever_is_asked() -> None:
    played = play([v2(), settled()], buying=purchase(private=False))

    assert isinstance(played.error, InsecureOrigin)
    assert not played.driver.all_of(Sign)


def test_no_message_repeats_more_than_a_little_of_what_a_stranger_wrote() -> None:
    noise = "\x1b[31m" + "\u202e" + "A" * 400
    entries = [v2_entry(scheme=noise, network=f"x{index}", asset=noise) for index in range(32)]

    played = play([v2(v2_message(*entries))])

    assert isinstance(played.error, NoAcceptableOffer)
    assert len(played.error.offered) == 32
    assert str(played.error).isprintable()
    assert len(str(played.error)) < 32 * 300
