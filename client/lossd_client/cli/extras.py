"""Optional packages."""


def has_pyarrow() -> bool:
    """Return whether pyarrow can be imported."""
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True
