"""Packages that are of use where they are installed."""


def has_pyarrow() -> bool:
    """Tells whether pyarrow can be imported."""
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True
