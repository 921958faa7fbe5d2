"""Run one operation in all its forms: compiled by numba, as plain Python, and as a native step."""

import ctypes

import numpy as np
import torch

from ffx.kernels import step
from ffx.kernels.memory import THREAD_WORDS, release_thread
from ffx.kernels.rng import epoch_key, operation_key
from ffx.pipeline.allocation_query import AllocationQuery, allocate
from ffx.pipeline.compiler import Compiler
from ffx.pipeline.operation import Operation
from ffx.pipeline.state import State

CPU = torch.device("cpu")


def array_state(values: np.ndarray) -> State:
    """State of samples like those of a batch."""
    return State(jit_mode=True, device=CPU, shape=values.shape[1:], dtype=values.dtype)


def tensor_state(values: torch.Tensor) -> State:
    return State(jit_mode=False, device=values.device, shape=tuple(values.shape[1:]), dtype=values.dtype)


def make_streams(ids: np.ndarray, seed: int = 1, epoch: int = 0, place: int = 1) -> np.ndarray:
    """The random streams that the loader gives for samples `ids`, none of them repeated."""
    streams = np.zeros((len(ids), 3), dtype=np.uint64)
    streams[:, 0] = np.int64(epoch_key(seed, epoch, operation_key("image", place))).view(np.uint64)
    streams[:, 1] = ids
    return streams


def _function(operation: Operation, compiled: bool):
    code = operation.generate_code()
    wanted = [name for name in ("with_indices", "with_random") if getattr(code, name, False)]
    return (Compiler.compile(code) if compiled else code), wanted


def generated(operation: Operation, values, ids=None, streams=None, compiled=True):
    """Declare, generate and call: what the loader's tail does. Buffers are filled with 0xA5 before."""
    ids = np.arange(len(values), dtype=np.uint64) if ids is None else np.asarray(ids, dtype=np.uint64)
    state = array_state(values) if isinstance(values, np.ndarray) else tensor_state(values)
    result_state, memory = operation.declare_state_and_memory(state)
    buffer = None
    if isinstance(memory, AllocationQuery):
        buffer = allocate(memory, len(values))
        (buffer if isinstance(buffer, np.ndarray) else buffer.numpy()).view(np.uint8)[...] = 0xA5
    function, wanted = _function(operation, compiled and result_state.jit_mode)
    extra = {"with_indices": ids, "with_random": make_streams(ids) if streams is None else streams}
    return function(values, buffer, *(extra[name] for name in wanted))


def native(operation: Operation, values: np.ndarray, ids=None, streams=None) -> np.ndarray:
    """Run an operation's kernel on a batch, one sample a call, as the loader's workers do."""
    ids = np.arange(len(values), dtype=np.uint64) if ids is None else np.asarray(ids, dtype=np.uint64)
    streams = make_streams(ids) if streams is None else streams
    state = array_state(values)
    _, memory = operation.declare_state_and_memory(state)
    description = operation.native_step(state)
    assert description is not None, "there is no native step"
    target = allocate(memory, len(values))
    target.view(np.uint8)[...] = 0xA5
    occurrences = streams[:, 2].astype(np.uint32)
    words = np.zeros(step.OWN + len(description.words), dtype=np.int64)
    words[step.SAMPLE_IDS], words[step.OCCURRENCES] = ids.ctypes.data, occurrences.ctypes.data
    words[step.RANDOM_KEY] = streams[:1, 0].view(np.int64).sum()
    words[step.SOURCE], words[step.SOURCE_BYTES] = values.ctypes.data, values.strides[0]
    words[step.TARGET], words[step.TARGET_BYTES] = target.ctypes.data, target.strides[0]
    words[step.OWN :] = description.words
    kernel = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)(description.kernel.address)
    thread = np.zeros(THREAD_WORDS, dtype=np.int64)
    try:
        for position in range(len(values)):
            outcome = kernel(words.ctypes.data, position, position + 1, thread.ctypes.data)
            assert outcome == step.OK
    finally:
        release_thread(thread)
    return target


def all_forms(operation: Operation, values: np.ndarray, ids=None) -> np.ndarray:
    """The result of an operation on arrays, after proving that its forms agree and spare the input."""
    before = values.copy()
    result = generated(operation, values, ids)
    np.testing.assert_array_equal(result, generated(operation, values, ids, compiled=False))
    if operation.native_step(array_state(values)) is not None:
        np.testing.assert_array_equal(result, native(operation, values, ids))
    np.testing.assert_array_equal(values, before)
    return result


def random_images(count: int, height: int = 7, width: int = 11, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Noise, every value of which is equally likely: uint8 (count, height, width, channels)."""
    shape = (count, height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)
