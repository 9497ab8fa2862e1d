"""A transport that answers in this process."""

from lossd_client import LossClient
from lossd_client.cli.engines.engine import Answer
from lossd_client.timeout import Timeout
from lossd_client.transport import Request, Response


class _Answered:
    """Answers requests by a function.

    Args:
        answer: The function.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def send(self, request: Request, timeout: Timeout) -> Response:
        """Answer a request."""
        del timeout
        request_id = request.headers["X-Request-Id"]
        loss = request.path.removeprefix("/")
        status, media_type, body = self._answer(loss, request.query, request.body, request_id)
        return Response(status, {"content-type": media_type}, body)

    def close(self) -> None:
        """Do nothing."""


def client_of(answer: Answer) -> LossClient:
    """Return a client whose requests a function answers, one at a time."""
    return LossClient(
        "http://127.0.0.1", transport=lambda: _Answered(answer), concurrency=1, retry=None, api_key=None
    )
