"""Reports as states: JSON documents in bytes, of unlike lengths."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from lossd_client.report import Report
from lossd_client.torchmetrics._rows import NO_ID

_BLANK: Final = ord(" ")  # JSON may be followed by it


def as_bytes(document: Mapping[str, Any], device: torch.device) -> Tensor:
    """Return a document as a state."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).to(device)


def text_in(state: Tensor) -> bytes:
    """Return the JSON of a state."""
    text: bytes = state.cpu().numpy().tobytes()
    return text


def report_in(state: Tensor) -> Report:
    """Return the report of a state."""
    return Report(json.loads(text_in(state)))


def padded(gather: Callable[..., Sequence[Tensor]]) -> Callable[..., list[Tensor]]:
    """Return what gathers states of unlike lengths as torchmetrics wants them: of one length."""

    def gathered(state: Tensor, group: Any = None) -> list[Tensor]:  # noqa: ANN401 - torch's
        states = gather(state, group=group)
        blank = state.new_tensor(_BLANK if state.dim() == 1 else NO_ID)
        longest = max(len(each) for each in states)
        return [torch.cat([each, blank.expand(longest - len(each), *each.shape[1:])]) for each in states]

    return gathered


def merged_bytes(states: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the report of several, each in bytes; none of none."""
    there = [state for state in states if bool((state != _BLANK).any())]
    if len(there) < 2:
        return there[0] if there else states[0][:0] if len(states) else torch.zeros(0, dtype=torch.uint8)
    return as_bytes(Report.merge(map(report_in, there)).to_dict(), there[0].device)
