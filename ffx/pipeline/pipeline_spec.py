"""What a user asks for: where a pipeline starts, and its operations."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .operation import Operation

__all__ = ["PipelineSpec"]


class PipelineSpec:
    """A pipeline as its user describes it; `Loader` turns it into a plan.

    Args:
        source: the name of a field, or an operation of another pipeline whose result this one
            starts from.
        decoder: the first operation; `None` takes the first of `transforms` if it is a decoder of
            the field, else the field's default decoder.
        transforms: the operations after it; torch modules are accepted where tensors flow.
    """

    def __init__(
        self,
        source: str | Operation,
        decoder: Operation | None = None,
        transforms: Sequence[Operation | torch.nn.Module] | None = None,
    ) -> None:
        self.source = source
        self.decoder = decoder
        # The list is copied (it may serve several pipelines), the operations never are: users keep
        # hold of them, to change `decoder.output_size` between epochs for example.
        self.transforms = list(transforms or [])
        self.default_pipeline = decoder is None and not self.transforms and isinstance(source, str)

    def __repr__(self) -> str:
        return f"PipelineSpec(source={self.source!r}, decoder={self.decoder!r}, transforms={self.transforms!r})"
