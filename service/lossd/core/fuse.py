"""A function of tensors, compiled by torch's Inductor, and called with as little around it as can be.

What torch.compile returns checks with every call that what it compiled still holds, which takes it 35 to 50
microseconds. Its caller here knows: tensors of the dtypes and in the layout of the examples.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from itertools import count
from types import FunctionType
from typing import Final, TypeAlias

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Tensors: TypeAlias = Mapping[str, Tensor]
Function: TypeAlias = Callable[[Tensors], tuple[Tensor, ...]]
Fused: TypeAlias = Callable[[list[Tensor]], tuple[Tensor, ...]]
"""Takes the tensors' values in the order of the examples; the list is used up."""

_OPTIONS: Final = {"cpp.threads": 1, "size_asserts": False, "alignment_asserts": False}
"""One thread, and no look at what the caller promises."""
_numbers: Final = count()


def fuse(function: Function, examples: Tensors) -> Fused:
    """Compile a function.

    Args:
        function: Pure, of `Tensors`, and made of torch's operations alone; returns a tuple of tensors.
        examples: Contiguous tensors. The first axis of those of more than one row may have any length from 1,
            the same for all of them; all other lengths stay as they are here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch deprecates of itself
        try:
            fused = _lower(function, examples)
            fused(list(examples.values()))
        except Exception as error:  # whatever a torch of other insides raises; a lack of a compiler, too
            logger.warning("torch %s is called through torch.compile: %r", torch.__version__, error)
            fused = _wrap(function, examples)
            fused(list(examples.values()))
    return fused


class _Module(torch.nn.Module):
    """What torch.export takes in the place of a function."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self._function = function

    def forward(self, tensors: Tensors) -> tuple[Tensor, ...]:
        return self._function(tensors)


def _lower(function: Function, examples: Tensors) -> Fused:
    """By Inductor itself, given the function's graph: no public interface, tried with torch 2.13."""
    from torch._guards import TracingContext, tracing
    from torch._inductor import config
    from torch._inductor.compile_fx import compile_fx_inner
    from torch._inductor.decomposition import select_decomp_table
    from torch._inductor.output_code import CompiledFxGraph

    rows = torch.export.Dim("rows", min=1)
    shapes = {name: {0: rows} if len(tensor) > 1 else None for name, tensor in examples.items()}
    program = torch.export.export(_Module(function), (dict(examples),), dynamic_shapes=(shapes,))
    program = program.run_decompositions(select_decomp_table())
    inputs = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"]
    with config.patch(_OPTIONS), tracing(TracingContext(inputs[0].fake_mode)):
        compiled = compile_fx_inner(program.graph_module, inputs)
    assert isinstance(compiled, CompiledFxGraph)
    assert compiled.current_callable is not None
    return compiled.current_callable


def _wrap(function: Function, examples: Tensors) -> Fused:
    """By torch.compile."""
    # It keeps what it has compiled with the code object, which all closures share, and looks through that
    # with each call.
    assert isinstance(function, FunctionType)
    function.__code__ = function.__code__.replace(co_name=f"{function.__name__}_{next(_numbers)}")
    wrapped = torch.compile(function, fullgraph=True, dynamic=True, options=dict(_OPTIONS))
    names = tuple(examples)
    return lambda values: wrapped(dict(zip(names, values, strict=True)))
