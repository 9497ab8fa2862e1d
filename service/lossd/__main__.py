"""``python -m lossd``: the command."""

from __future__ import annotations

from lossd.cli import main

if __name__ == "__main__":
    main()
