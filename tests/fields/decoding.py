"""Run a decoder without a loader: by its native step, compiled, and as plain Python."""

import ctypes

import numpy as np
from numba import njit

from ffx.kernels import step as native
from ffx.pipeline.compiler import Compiler
from ffx.pipeline.state import INITIAL_STATE


def read_blob(pointer, state):
    """What a memory manager's reader does: the bytes that lie at an offset of the file."""
    data, pointers, sizes = state
    row = np.searchsorted(pointers, pointer, side="right") - 1
    return data[pointer : pointer + sizes[row]]


class Stored:
    """A field's column of an open file, and the bytes of that file."""

    def __init__(self, reader, name):
        self.reader, self.name = reader, name
        self.data = np.fromfile(reader.file_name, dtype=np.uint8)
        self.metadata = reader.metadata[f"f{reader.field_names.index(name)}"]

    def prepare(self, decoder, enabled=True):
        decoder.accept_field(self.reader.handlers[self.name])
        decoder.accept_globals(self.metadata, njit(read_blob) if enabled else read_blob)
        state, query = decoder.declare_state_and_memory(INITIAL_STATE)
        return state, query

    def generated(self, decoder, sample_ids, enabled=True):
        """By the function that `generate_code` gives, compiled or not; the buffer has two rows too many."""
        Compiler.set_enabled(enabled)
        try:
            _, query = self.prepare(decoder, enabled)
            function = Compiler.compile(decoder.generate_code())
        finally:
            Compiler.set_enabled(True)
        ids = np.asarray(sample_ids, dtype=np.uint64)
        buffer = np.full(((len(ids) + 2) * int(np.prod(query.shape)) * query.dtype.itemsize,), 0xA5, np.uint8)
        buffer = buffer.view(query.dtype).reshape(len(ids) + 2, *query.shape)
        state = (self.data, self.reader.index.pointers, self.reader.index.sizes)
        return function(ids, buffer, self.metadata, state)

    def native(self, decoder, sample_ids, mapped_bytes=None, thread=0):
        """By the native step: `(what it returned, the batch)`."""
        state, query = self.prepare(decoder)
        step = decoder.native_step(state)
        ids = np.asarray(sample_ids, dtype=np.uint64)
        target = np.full((len(ids), *query.shape), 0, query.dtype)
        target.view(np.uint8)[...] = 0xA5
        index = self.reader.index
        storage = np.zeros(native.STORAGE_WORDS, dtype=np.int64)
        storage[native.BASE] = self.data.ctypes.data
        storage[native.SIZE] = self.data.size if mapped_bytes is None else mapped_bytes
        storage[native.POINTERS], storage[native.SIZES] = index.pointers.ctypes.data, index.sizes.ctypes.data
        storage[native.ROWS] = len(index.pointers)
        words = np.zeros(native.OWN + len(step.words), dtype=np.int64)
        words[native.SAMPLE_IDS] = ids.ctypes.data
        occurrences = np.zeros(len(ids), dtype=np.uint32)
        words[native.OCCURRENCES] = occurrences.ctypes.data
        words[native.TARGET] = target.ctypes.data
        words[native.TARGET_BYTES] = target.nbytes // max(1, len(ids))
        words[native.METADATA], words[native.METADATA_BYTES] = self.metadata.ctypes.data, self.metadata.strides[0]
        words[native.STORAGE] = storage.ctypes.data
        words[native.OWN :] = step.words
        kernel = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)(step.kernel.address)
        return kernel(words.ctypes.data, 0, len(ids), thread), target
