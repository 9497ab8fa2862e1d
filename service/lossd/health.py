"""`python -m lossd.health`: whether the server of this container is ready, for the image's HEALTHCHECK.

It is started every few seconds, and so imports little.
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
    """Where the server listens.

    Args:
        command: What started it. An option wins there, too.
        environment: Its variables. Kubernetes may make LOSSD_PORT of a Service, which is no port.
    """
    option = _option.search(command)
    if option is not None:
        return int(option[1])
    variable = environment.get("LOSSD_PORT", "").strip()
    return int(variable) if variable.isdecimal() else _PORT


def main() -> bool:
    """Ask; whether it is ready."""
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
