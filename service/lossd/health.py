"""`python -m lossd.health`: checks whether this container's server is alive, for the image's HEALTHCHECK.

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


def find_port(command: str, environment: Mapping[str, str]) -> tuple[int, bool]:
    """Return the port that the server answers probes on, and whether it may be for HTTPS.

    Args:
        command: The server's command line, whose option comes before the variable.
        environment: Its variables. Kubernetes may set LOSSD_PORT or LOSSD_ADMIN_PORT to something else for a
            Service.
    """
    admin = environment.get("LOSSD_ADMIN_PORT", "").strip()
    if admin.isdecimal() and int(admin):
        return int(admin), False
    option = _option.search(command)
    if option is not None:
        return int(option[1]), True
    variable = environment.get("LOSSD_PORT", "").strip()
    return (int(variable) if variable.isdecimal() else _PORT), True


def main() -> bool:
    """Ask the server; return whether it is alive."""
    command = Path("/proc/1/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    port, may_be_https = find_port(command, os.environ)
    # http.client rather than urllib, which would ask a proxy named in the environment.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    if may_be_https and os.environ.get("LOSSD_TLS_CERTIFICATE"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # it is this container's own
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=_SECONDS, context=context)
    try:
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        if answer.status != 200:
            sys.stderr.write(f"port {port}: {answer.read(1000).decode(errors='replace')}\n")
        return answer.status == 200
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"port {port}: {error}\n")
        return False


if __name__ == "__main__":
    sys.exit(not main())
