"""The body of a 402, decoded within a bound: a zip bomb is stopped, not unpacked."""

from __future__ import annotations

import zlib

MAX_BYTES = 64 * 1024

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": 15}


def decode(raw: bytes, content_encoding: str) -> bytes:
    """The decoded body. Raises ValueError where it is too large, damaged, or coded otherwise."""
    coding = content_encoding.strip().lower()
    if coding in ("", "identity"):
        if len(raw) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        return raw
    bits = _WINDOW_BITS.get(coding)
    if bits is None:
        raise ValueError(f"content-encoding {coding[:40]!r} is not one we read (gzip, deflate)")
    inflater = zlib.decompressobj(bits)
    try:
        body = inflater.decompress(raw, MAX_BYTES + 1)
    except zlib.error:
        raise ValueError(f"its {coding} coding is damaged") from None
    if len(body) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes once decoded")
    if not inflater.eof:
        raise ValueError(f"its {coding} coding is cut short")
    return body
