"""The way from the loader's memory to the consumer's device: a copy stream and its events.

`HostLink` is the same thing for pipelines that stay on the CPU: nothing to wait for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .slots import Slot

__all__ = ["CudaLink", "HostLink", "link_to"]


class HostLink:
    """For pipelines that stay on the CPU."""

    pinned = False

    @contextmanager
    def making(self, slot: Slot) -> Iterator[None]:
        """Surrounds the steps of the tail of one batch."""
        yield

    def receive(self, slot: Slot, results: tuple) -> None:
        """Called in the consumer's thread before it gets a batch."""

    def release(self, slot: Slot) -> None:
        """Called in the consumer's thread when it has gone on from a batch."""

    def wait_until_free(self, slot: Slot) -> None:
        """Called before a slot's host memory is filled again."""

    def take_over(self) -> None:
        """Called after buffers were allocated, before they are written to."""

    def finish(self) -> None:
        """Called before slots are given back."""


class CudaLink:
    """For pipelines with steps on a GPU.

    Those steps run on a stream of their own, so copies overlap with the consumer's compute. The
    consumer's stream waits for the batch (not its thread); the copy stream waits for the consumer
    before it writes to device memory again, and the host waits for the copies before it fills the
    pinned memory that they read.

    Args:
        device: the GPU.
    """

    pinned = True

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def making(self, slot: Slot) -> Iterator[None]:
        """Runs the tail on the copy stream; `slot.ready` is recorded behind it."""
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            if slot.consumed is not None:
                self._stream.wait_event(slot.consumed)
                slot.consumed = None
            yield
            slot.ready = self._stream.record_event()

    def receive(self, slot: Slot, results: tuple) -> None:
        """Make the consumer's current stream wait for the batch, and tell the allocator of it."""
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(slot.ready)
        for result in results:
            if isinstance(result, torch.Tensor) and result.is_cuda:
                # Or the memory might serve the copy stream again while the consumer still reads it.
                result.record_stream(stream)

    def release(self, slot: Slot) -> None:
        """Everything that the consumer has submitted so far may read the slot's device memory."""
        slot.consumed = torch.cuda.current_stream(self.device).record_event()

    def wait_until_free(self, slot: Slot) -> None:
        """Wait (without the GIL) for the copies out of the slot's pinned memory."""
        if slot.ready is not None:
            slot.ready.synchronize()
            slot.ready = None
        if slot.consumed is not None and slot.gives_host_memory:
            # The consumer may copy page-locked results to the GPU itself, and not wait for it.
            slot.consumed.synchronize()

    def take_over(self) -> None:
        """New device memory may have been somebody's until now: its stream goes first."""
        self._stream.wait_stream(torch.cuda.current_stream(self.device))

    def finish(self) -> None:
        """Wait for everything that was submitted to the copy stream."""
        # By an event: `torch.cuda.set_sync_debug_mode` takes the other way for a mistake in the user's loop.
        self._stream.record_event().synchronize()


def link_to(device: torch.device | None) -> HostLink | CudaLink:
    """The link for a schedule's device (`None`: the CPU)."""
    if device is not None and device.type == "cuda":
        return CudaLink(device)
    return HostLink()
