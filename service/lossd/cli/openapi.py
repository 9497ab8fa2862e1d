"""`lossd openapi`: the OpenAPI document of a server, which need not run."""

import json
from typing import Annotated, Any

import typer

from lossd.cli.errors import fail, server_imports


def openapi(
    bodies: Annotated[
        list[str] | None,
        typer.Option(
            "--body",
            metavar="MEDIA_TYPE",
            help="Keep only this request body of those that an operation takes, for a generator of clients "
            "that knows one; may be repeated.",
            show_default="all of them",
        ),
    ] = None,
) -> None:
    """Print the OpenAPI document, from which generators make clients in other languages.

    It is what a server with the settings of this environment serves as /openapi.json.
    """
    with server_imports(", or get it from a server: /openapi.json"):
        from pydantic import ValidationError

        from lossd.api.app import openapi_document
        from lossd.core.catalog import register
        from lossd.settings import Settings
        from lossd.start_checks import explain_all
    try:
        settings = Settings()
        for place in settings.losses:
            register(place)
    except ValidationError as error:
        fail("\n".join(explain_all(error, {})))
    except ValueError as error:
        fail(f"LOSSD_LOSSES: {error}")
    document = openapi_document(settings)
    if bodies:
        _keep_bodies(document, bodies)
    typer.echo(json.dumps(document, ensure_ascii=False, indent=1))


def _keep_bodies(document: dict[str, Any], media_types: list[str]) -> None:
    """Leave out other request bodies of operations that take one of these."""
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    taken = [operation["requestBody"] for operation in operations if "requestBody" in operation]
    known = list(dict.fromkeys(media_type for body in taken for media_type in body["content"]))
    for media_type in media_types:
        if media_type not in known:
            fail(f"--body {media_type}: there are {', '.join(known)}")
    for body in taken:
        kept = {name: body["content"][name] for name in media_types if name in body["content"]}
        body["content"] = kept or body["content"]
