"""The certificate that HTTPS is served with: read again when its files change.

It imports nothing of the HTTP framework: the command looks at the files with it, before anything is started.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path
from typing import Final

from lossd.watched_files import WatchedFiles

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 2.0


class BadCertificate(ValueError):  # noqa: N818 -- it is the files that are bad
    """Files that HTTPS cannot be served with; says which, and why."""


class Certificate:
    """A certificate chain and its private key, each in a PEM file.

    Args:
        chain: The certificate's file, and those of who has signed it.
        key: The key's.

    Attributes:
        context: What connections are made with; each has the files as they were last.

    Raises:
        BadCertificate: They cannot be used.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain, self._key = chain, key
        self._files = WatchedFiles(chain, key, seconds=_LOOK_SECONDS)
        self.context: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._load()

    async def follow(self) -> None:
        """Load the files again whenever one changes.

        They are replaced one after the other, and are in use as soon as they match.
        """
        async for _ in self._files.changes():
            try:
                self._load()
                logger.info("the certificate is that of %s as it is now", self._chain)
            except BadCertificate as error:
                logger.error("%s; the certificate stays as it was", error)

    def _load(self) -> None:
        # A pair that cannot be loaded spoils the context all the same, so another is tried first.
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._chain, self._key)
        load(self.context, self._chain, self._key)


async def open_certificate(chain: Path, key: Path) -> Certificate:
    """A certificate, as soon as its files can be used.

    The command has seen that they can; whoever comes later may find them in the middle of a change.
    """
    said = ""
    while True:
        try:
            return Certificate(chain, key)
        except BadCertificate as error:
            if said != (said := str(error)):
                logger.error("%s; this front end serves nothing until that is mended", error)
        await asyncio.sleep(_LOOK_SECONDS)


def load(context: ssl.SSLContext, chain: Path, key: Path) -> None:
    """Have a context use a certificate.

    Raises:
        BadCertificate: It cannot be used.
    """
    _check(chain, b"-----BEGIN CERTIFICATE-----", "no certificate (PEM)")
    _check(key, b"PRIVATE KEY-----", "no private key (PEM)")

    def no_password() -> str:
        msg = f"{key}: the key is encrypted; use one that needs no password"
        raise BadCertificate(msg)

    try:
        context.load_cert_chain(chain, key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            msg = f"{key}: the key is not that of the certificate {chain}"
        else:
            msg = f"{chain} and {key}: no certificate chain and its key ({error.reason or 'not well-formed'})"
        raise BadCertificate(msg) from None
    except OSError as error:
        msg = f"{chain}: {error.strerror or error}"
        raise BadCertificate(msg) from None


def _check(path: Path, mark: bytes, complaint: str) -> None:
    try:
        found = mark in path.read_bytes()
    except OSError as error:
        msg = f"{path}: {error.strerror or error}"
        raise BadCertificate(msg) from None
    if not found:
        msg = f"{path}: there is {complaint} in it"
        raise BadCertificate(msg)
