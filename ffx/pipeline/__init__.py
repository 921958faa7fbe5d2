"""FFCV's protocol for operations, and the plan that the loader runs."""

from ..kernels.rng import stream_uniform
from .allocation_query import AllocationQuery
from .compiler import Compiler
from .graph import Graph
from .operation import NativeStep, Operation
from .pipeline_spec import PipelineSpec
from .plan import Plan
from .state import State

# FFCV's name for what is now a plan over a graph of operations.
Pipeline = Plan

__all__ = [
    "AllocationQuery",
    "Compiler",
    "Graph",
    "NativeStep",
    "Operation",
    "Pipeline",
    "PipelineSpec",
    "Plan",
    "State",
    "stream_uniform",
]
