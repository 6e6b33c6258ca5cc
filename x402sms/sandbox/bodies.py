"""The body of a request, read for a price before the endpoint itself reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from x402sms.sandbox.problems import describe_invalid, validation

Body = TypeVar("Body", bound=BaseModel)


async def read_body(request: Request, parse: Callable[[bytes], Body]) -> Body:
    """Raises Problem (400) for what `parse` does not take: ValidationError, or no JSON."""
    media_type = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "application/json":
        raise validation("The body must be sent as application/json")
    try:
        return parse(await request.body())
    except ValidationError as error:
        raise validation(describe_invalid(list(error.errors()))) from error
    except (ValueError, RecursionError) as error:
        raise validation("The body is not JSON that can be read") from error
