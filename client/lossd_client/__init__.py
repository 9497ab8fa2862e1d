"""The client of lossd, a service that computes losses.

from lossd_client import LossClient

with LossClient("http://127.0.0.1:8000") as client:
    result = client.focal(logits, targets, gamma=2.0)
    print(float(result), result.count)
"""

from lossd_client._version import version as _version
from lossd_client.call import DEFAULT, Axis, Default, Normalizer, Reduction, TargetsFormat, Variant
from lossd_client.client import AsyncLossClient, LossClient
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
from lossd_client.result import LossResult

__all__ = [
    "DEFAULT",
    "AsyncLossClient",
    "Axis",
    "BadAnswer",
    "ConnectionFailed",
    "DeadlineExceeded",
    "Default",
    "ErrorItem",
    "InvalidRequest",
    "LossClient",
    "LossResult",
    "LossdError",
    "Normalizer",
    "NotFound",
    "Reduction",
    "ServerError",
    "StatusError",
    "TargetsFormat",
    "Throttled",
    "TimedOut",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "Variant",
]


def __getattr__(name: str) -> str:
    if name == "__version__":  # asked for seldom, and slow to find
        return _version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
