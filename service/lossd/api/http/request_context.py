"""The id, the client's address and the headers of a request, from its ASGI scope."""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

from lossd.api.accounting import address_of

REQUEST_ID: Final = "lossd.request_id"
"""The scope's key of the request id, a str."""


def request_id(scope: Scope) -> str:
    """Return the id of a request."""
    return str(scope[REQUEST_ID])


def client_host(scope: Scope) -> str:
    """Return the client's address; empty if it is not known."""
    client = scope.get("client")
    return address_of(str(client[0])) if client else ""


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first header of a name in lower case, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def joined_header(scope: Scope, name: bytes) -> bytes | None:
    """Return all headers of a name as one, joined by commas (RFC 9110, 5.3), or None."""
    values = [value for key, value in scope["headers"] if key == name]
    return b", ".join(values) if values else None


def header_text(scope: Scope, name: bytes) -> str | None:
    """Return the text of a header, of several joined by commas, or None."""
    value = joined_header(scope, name)
    return None if value is None else value.decode("latin-1").strip(" \t")
