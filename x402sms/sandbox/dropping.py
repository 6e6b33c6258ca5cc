"""uvicorn's HTTP/1.1, with a way for the application to close its connection."""

from __future__ import annotations

from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from x402sms.sandbox.interference import DROP


class DroppingProtocol(H11Protocol):
    """Offers the extension that `Interference` asks for."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        inner = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            # close() sends what was written; abort() would throw it away.
            scope["extensions"] = {DROP: self.transport.close}
            await inner(scope, receive, send)

        self.app = app
