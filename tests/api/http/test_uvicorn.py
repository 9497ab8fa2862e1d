"""The parts of uvicorn that `lossd.api.http` overrides or uses, and that are not its public interface."""

from __future__ import annotations

import inspect
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from uvicorn.protocols.http import flow_control, httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

ROOT = Path(__file__).parents[3]
REMEDY = "compare lossd.api.http with this uvicorn before pyproject.toml allows it"


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (
            HttpToolsProtocol,
            "connection_made data_received connection_lost pause_writing resume_writing shutdown "
            "on_message_begin on_url on_header on_headers_complete on_body on_message_complete "
            "on_response_complete _start_asgi_task",
        ),
        (flow_control.FlowControl, "pause_reading resume_reading pause_writing resume_writing drain"),
        (httptools_impl, "STATUS_LINE"),
    ],
    ids=["protocol", "flow", "module"],
)
def test_what_is_overridden_or_called_is_there(owner: object, names: str) -> None:
    missing = [name for name in names.split() if not hasattr(owner, name)]
    assert not missing, f"uvicorn {version('uvicorn')} has no {', '.join(missing)}; {REMEDY}"


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (
            HttpToolsProtocol,
            "cycle scope headers url pipeline flow parser transport scheme client server_state "
            "expect_100_continue timeout_keep_alive connections loop",
        ),
        (
            RequestResponseCycle,
            "scope transport body keep_alive disconnected message_event response_started response_complete",
        ),
        (flow_control.FlowControl, "read_paused write_paused"),
        (ServerState, "total_requests default_headers connections"),
    ],
    ids=["protocol", "cycle", "flow", "state"],
)
def test_what_is_read_or_set_is_there(owner: type, names: str) -> None:
    source = inspect.getsource(owner)
    missing = [name for name in names.split() if f"self.{name}" not in source]
    assert not missing, f"uvicorn {version('uvicorn')} keeps no {', '.join(missing)}; {REMEDY}"


def test_flow_control_does_nothing_to_a_transport_but_pause_and_resume_it() -> None:
    used = set(re.findall(r"self\._transport\.(\w+)", inspect.getsource(flow_control.FlowControl)))
    assert used == {"pause_reading", "resume_reading"}, f"`Backpressure` has no others; {REMEDY}"


def test_a_pipelined_request_is_a_cycle_and_its_application() -> None:
    assert list(inspect.signature(HttpToolsProtocol._start_asgi_task).parameters) == ["self", "cycle", "app"]


def test_the_newest_version_allowed_is_the_one_that_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (allowed,) = [one for one in project["optional-dependencies"]["cpu"] if one.startswith("uvicorn")]
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    (tested,) = [pin.partition("==")[2] for pin in pins if pin.startswith("uvicorn==")]
    major, minor = map(int, tested.split(".")[:2])
    assert allowed.endswith(f",<{major}.{minor + 1}"), f"{allowed!r}, but constraints.txt has {tested}"
