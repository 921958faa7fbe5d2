"""Which device a user means, settled once: a GPU gets its number."""

from __future__ import annotations

import torch

from ..errors import PipelineError

__all__ = ["resolve_device"]


def resolve_device(device: torch.device | str | int, wanted_by: str, instead: str) -> torch.device:
    """The device that a name, a number or a `torch.device` stands for.

    Args:
        device: what the user gave; `"cuda"` is the GPU that is current in this thread.
        wanted_by: who asks, for messages: `"ToDevice"`.
        instead: what to do where there is no GPU.

    Raises:
        PipelineError: for an unknown device, or a GPU that torch does not see.
    """
    try:
        resolved = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise PipelineError(
            f"{wanted_by}: expected a device such as 'cuda:0' or 'cpu', found {device!r}: {error}"
        ) from error
    if resolved.type != "cuda":
        return resolved
    count = torch.cuda.device_count()
    if count == 0:
        raise PipelineError(f"{wanted_by}({device!r}): torch sees no GPU here: {instead}")
    # The loader's threads have a current device of their own, so the number is settled here.
    index = torch.cuda.current_device() if resolved.index is None else resolved.index
    if index >= count:
        raise PipelineError(f"{wanted_by}({device!r}): torch sees GPUs 0 to {count - 1} only")
    return torch.device("cuda", index)
