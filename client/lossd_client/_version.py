from functools import cache


@cache
def version() -> str:
    """Return the installed distribution's version, or "unknown" when the package runs uninstalled."""
    from importlib import metadata  # slow to import, and most callers never ask

    try:
        return metadata.version("lossd")
    except metadata.PackageNotFoundError:
        return "unknown"
