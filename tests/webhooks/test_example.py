"""examples/webhook_receiver.py, and the lines of docs/webhooks.md, as they stand."""

from __future__ import annotations

import re
import runpy
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

import x402sms
from tests.webhooks.parts import SECRET, body_of, headers_for
from x402sms.webhooks import EventStore

ROOT = Path(x402sms.__file__).parents[1]


async def posted(app: Any, body: bytes) -> int:
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        return (
            await client.post("/virtualsms", content=body, headers=headers_for(body))
        ).status_code


@pytest.mark.anyio
async def test_the_example_prints_each_sms_once_also_after_a_restart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("X402SMS_WEBHOOK_SECRET", SECRET)
    example = runpy.run_path(str(ROOT / "examples/webhook_receiver.py"))
    now = time.time()
    low = body_of(2, at=now, type="balance.low", data={"balance": "0.80"})
    for body in (body_of(at=now), body_of(at=now), low):
        assert await posted(example["create_app"](), body) == 200
    assert capsys.readouterr().out.splitlines() == [
        "+447700900101 got: 'Your Telegram code is 00001'",
        "top up: 0.80 left",
    ]
    with EventStore("webhooks.db") as store:
        assert len(store.messages("ord_1")) == 1


@pytest.mark.anyio
async def test_the_lines_of_the_docs_are_an_app() -> None:
    text = (ROOT / "docs/webhooks.md").read_text(encoding="utf-8")
    [program] = [
        block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "Route" in block
    ]
    seen: list[object] = []
    names: dict[str, Any] = {"secret": SECRET, "on_event": seen.append}
    exec(compile(program, "webhooks.md", "exec"), names)  # noqa: S102  the docs' own code
    assert await posted(names["app"], body_of(at=time.time())) == 200
    assert len(seen) == 1
    names["store"].close()
