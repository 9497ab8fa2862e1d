"""The certificate for HTTPS, read again when its files change.

This imports nothing of the HTTP framework, since the command uses it to check the files before the start.
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
    """Certificate files that cannot be used; says which, and why."""


class Certificate:
    """A certificate chain and its private key, each in a PEM file.

    Args:
        chain: The file of the certificate and its signers.
        key: The file of the key.

    Attributes:
        context: The context of new connections, with the files as last read.

    Raises:
        BadCertificate: The files cannot be used.
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
            self.read()

    def read(self) -> None:
        """Load the files again, if they can be used."""
        try:
            self._load()
            logger.info("reloaded the certificate from %s", self._chain)
        except BadCertificate as error:
            logger.error("%s; the certificate stays as it was", error)

    def _load(self) -> None:
        # A pair that cannot be loaded would still spoil the context, so it is tried on another.
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._chain, self._key)
        load(self.context, self._chain, self._key)


async def open_certificate(chain: Path, key: Path) -> Certificate:
    """Return a certificate, as soon as its files can be used.

    The command has checked them, but a process started later may find them in the middle of a change.
    """
    said = ""
    while True:
        try:
            return Certificate(chain, key)
        except BadCertificate as error:
            if said != (said := str(error)):
                logger.error("%s; this front end does not serve until the files are fixed", error)
        await asyncio.sleep(_LOOK_SECONDS)


def load(context: ssl.SSLContext, chain: Path, key: Path) -> None:
    """Load a certificate into a context.

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
