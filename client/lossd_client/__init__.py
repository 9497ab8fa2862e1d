"""The client of lossd, a service that computes losses.

from lossd_client import LossClient

with LossClient("http://127.0.0.1:8000") as client:
    result = client.focal(logits, targets, gamma=2.0)
    print(float(result), result.count)
"""

import typing

from lossd_client._calls.arrays import Array
from lossd_client._calls.parameters import (
    DEFAULT,
    Axis,
    Default,
    IgnoreIndex,
    LossName,
    Normalizer,
    Reduction,
    TargetsFormat,
    Variant,
)
from lossd_client._http.logs import show_as_asked as _show_log_as_asked
from lossd_client._requests.splitting import Batch
from lossd_client._version import version as _version
from lossd_client.async_client import AsyncLossClient
from lossd_client.client import LossClient
from lossd_client.errors import (
    BadAnswer,
    ConnectionFailed,
    DeadlineExceeded,
    ErrorItem,
    InvalidRequest,
    LossdError,
    NotFound,
    ServerError,
    StatusError,
    Throttled,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from lossd_client.progress import Progress, progress_bar
from lossd_client.rate_limit import Rate, RateLimit
from lossd_client.raw_response import RawResponse
from lossd_client.report import Report
from lossd_client.result import LossResult
from lossd_client.retry import Retry
from lossd_client.timeout import Timeout
from lossd_client.transport import AsyncTransport, Request, Response, Transport

if typing.TYPE_CHECKING:
    from lossd_client._http.httpx_transport import AsyncHttpxTransport, HttpxTransport
    from lossd_client.comparison import Comparison, NotComparable, compare

    __version__: str

__all__ = [
    "DEFAULT",
    "Array",
    "AsyncHttpxTransport",
    "AsyncLossClient",
    "AsyncTransport",
    "Axis",
    "BadAnswer",
    "Batch",
    "Comparison",
    "ConnectionFailed",
    "DeadlineExceeded",
    "Default",
    "ErrorItem",
    "HttpxTransport",
    "IgnoreIndex",
    "InvalidRequest",
    "LossClient",
    "LossName",
    "LossResult",
    "LossdError",
    "Normalizer",
    "NotComparable",
    "NotFound",
    "Progress",
    "Rate",
    "RateLimit",
    "RawResponse",
    "Reduction",
    "Report",
    "Request",
    "Response",
    "Retry",
    "ServerError",
    "StatusError",
    "TargetsFormat",
    "Throttled",
    "TimedOut",
    "Timeout",
    "TooLarge",
    "Transport",
    "Unauthorized",
    "Unavailable",
    "Variant",
    "compare",
    "progress_bar",
]

_show_log_as_asked()


def __getattr__(name: str) -> object:
    if name == "__version__":  # rarely read, and slow to find
        return _version()
    if name in ("AsyncHttpxTransport", "HttpxTransport"):  # rarely used by name, and slow to import
        from lossd_client._http import httpx_transport

        return getattr(httpx_transport, name)
    if name in ("Comparison", "NotComparable", "compare"):  # likewise
        from lossd_client import comparison

        return getattr(comparison, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
