"""`python -m lossd.health`: checks whether this container's server is ready, for the image's HEALTHCHECK.

It runs every few seconds, so it imports little.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_PORT: Final = 8000
_SECONDS: Final = 4.0
_option: Final = re.compile(r"--port[ =](\d+)")


def find_port(command: str, environment: Mapping[str, str]) -> int:
    """Return the port that the server listens on.

    Args:
        command: The server's command line, whose option comes before the variable.
        environment: Its variables. Kubernetes may set LOSSD_PORT to something else for a Service.
    """
    option = _option.search(command)
    if option is not None:
        return int(option[1])
    variable = environment.get("LOSSD_PORT", "").strip()
    return int(variable) if variable.isdecimal() else _PORT


def main() -> bool:
    """Ask the server; return whether it is ready."""
    command = Path("/proc/1/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    address = ("127.0.0.1", find_port(command, os.environ))
    # http.client rather than urllib, which would ask a proxy named in the environment.
    connection = http.client.HTTPConnection(*address, timeout=_SECONDS)
    if os.environ.get("LOSSD_TLS_CERTIFICATE"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is this container's own
        connection = http.client.HTTPSConnection(*address, timeout=_SECONDS, context=context)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"port {address[1]}: {error}\n")
        return False


if __name__ == "__main__":
    sys.exit(not main())
