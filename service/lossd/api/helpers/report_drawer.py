"""The helper process that draws reports as HTML, with the client's code that makes `lossd report --html`.

Besides it only `lossd.batch` and `lossd.__main__` use the client. No module imports this one: `Drawer` runs
it.
"""

from __future__ import annotations

import sys

from lossd.api.helpers.arena_helper import work_in_arena
from lossd.api.helpers.drawer import FAILURES, MEMORY, Drawn
from lossd.types import ErrorCode, RequestError
from lossd_client._views import NotJson, ViewError, draw_views


def _draw(region: memoryview, length: int) -> Drawn:
    """Draw the document at the beginning of a region, and write the view behind it."""
    try:
        view = draw_views(bytes(region[:length])).encode(errors="replace")  # JSON may hold what is no text
    except NotJson as error:
        raise RequestError(ErrorCode.MALFORMED_JSON, str(error)) from None
    except ViewError as error:
        pointers = [(error.pointer, str(error))] if error.pointer else []
        raise RequestError(ErrorCode.INVALID_PARAMETER, str(error), pointers) from None
    except MemoryError:
        detail = f"drawing it takes over {MEMORY} times the memory of the longest body; show smaller reports"
        raise RequestError(ErrorCode.BODY_TOO_LARGE, detail) from None
    room = len(region) - length
    if len(view) > room:
        detail = (
            f"the view is {len(view)} bytes, and there is room for {room}; show reports with fewer groups, "
            "classes or rows"
        )
        raise RequestError(ErrorCode.OUTPUT_TOO_LARGE, detail)
    region[length : length + len(view)] = view
    return Drawn(len(view))


if __name__ == "__main__":
    work_in_arena(sys.argv[1], "drawer", _draw, FAILURES)
