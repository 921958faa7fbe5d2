"""RGB to a JPEG in tiles in one go: the coefficients of libjpeg's accurate method, 4:2:0, the best Huffman codes.

A row of MCUs at a time: planes, DCT, tokens; when all tokens are there, codes and coded data. The header comes
from a JPEG that the caller has, and with it the quantisers, so a quality is what the caller's encoder makes of it.
"""

from __future__ import annotations

import functools

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .compiling import compiled
from .forward_dct import MASK_ROWS, forward_dct
from .huffman import NATURAL_BYTES, natural_order
from .huffman_tokens import AMOUNTS, TABLE_SHIFT, VALUE_SHIFT, bit_count, store_u32, write_jpeg
from .jpeg_planes import STEP, convert_rows
from .memory import array_at, copy_bytes, load_i64, load_u8, load_u64, scratch, store_i64

__all__ = ["encode_jpeg", "zigzag_order"]

_TOKENS_AREA = 4  # of a thread's scratch memory
_UNIT = 16  # pixels a side of an MCU
_ALL_ZEROS, _SIXTEEN_ZEROS = 0x00, 0xF0
_TOKEN_BYTES = 4
_BLOCK_TOKENS = 64  # that a block has at most
_MASK_PLACE = 2 * 64  # behind a block's coefficients
_WORK_BYTES = _MASK_PLACE + 8
_LUMA, _CHROMA = 0, 2  # the tables of DC tokens; those of AC follow


@functools.cache
def zigzag_order() -> tuple[np.ndarray, np.ndarray]:
    """`(natural, masks)`, from natural order to zigzag order.

    `uint8[64]`: the place in natural order of each place in zigzag order. `uint64[8, 256]`: for each value of byte i
    of a mask of `forward_dct`, a bit for each of its coefficients at that one's place in zigzag order.
    """
    order = np.empty(NATURAL_BYTES, np.uint8)
    natural_order(order.ctypes.data)
    natural = order[:64].copy()
    places = np.argsort(natural).reshape(8, 8)
    values = np.arange(256)
    masks = np.zeros((8, 256), np.uint64)
    for byte, row in enumerate(MASK_ROWS):
        for column in range(8):
            masks[byte] |= (values >> column & 1).astype(np.uint64) << np.uint64(places[row, column])
    return natural, masks


@intrinsic
def _lowest_bit(typing_context, value):
    """The place of the lowest bit that is set in an int64 that is not 0."""

    def codegen(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


@intrinsic
def _load_coefficient(typing_context, address):
    """An int16 as int64."""

    def codegen(context, builder, signature, arguments):
        word = ir.IntType(16)
        value = builder.load(builder.inttoptr(arguments[0], word.as_pointer()))
        value.align = 1
        return builder.sext(value, ir.IntType(64))

    return types.int64(types.int64), codegen


@njit(inline="always")
def _add_token(tokens, amounts, symbol, value, size):
    """Write a token of a symbol with its table, and the bits of a coefficient of `size` bits, and count it."""
    # Of a negative number the bits of one less are coded.
    bits = (value + (value >> 63)) & ((1 << size) - 1)
    store_u32(tokens, symbol | bits << VALUE_SHIFT)
    store_i64(amounts + 8 * symbol, load_i64(amounts + 8 * symbol) + 1)


@njit(inline="always")
def _block_tokens(coefficients, mask, difference, table, tokens, amounts, natural):
    """One block's tokens, from the address `tokens` on; the address behind them.

    Args:
        coefficients: address of int16[64] in natural order.
        mask: a bit for each AC coefficient that is not 0, in zigzag order.
        difference: of the DC coefficient from the one before.
        table: of the DC token; AC tokens have the next.
        amounts: address of int64[AMOUNTS].
        natural: address of uint8[64], see `zigzag_order`.
    """
    size = bit_count(abs(difference))
    _add_token(tokens, amounts, table << TABLE_SHIFT | size, difference, size)
    tokens += _TOKEN_BYTES
    of_table = (table + 1) << TABLE_SHIFT
    before = np.int64(0)
    while mask != 0:
        place = _lowest_bit(mask)
        mask &= mask - 1
        run = place - before - 1
        before = place
        while run > 15:
            _add_token(tokens, amounts, of_table | _SIXTEEN_ZEROS, np.int64(0), np.int64(0))
            tokens += _TOKEN_BYTES
            run -= 16
        value = _load_coefficient(coefficients + 2 * np.int64(load_u8(natural + place)))
        size = bit_count(abs(value))
        _add_token(tokens, amounts, of_table | run << 4 | size, value, size)
        tokens += _TOKEN_BYTES
    if before != 63:
        _add_token(tokens, amounts, of_table | _ALL_ZEROS, np.int64(0), np.int64(0))
        tokens += _TOKEN_BYTES
    return tokens


@njit(inline="always")
def _zigzag_mask(mask, masks):
    """From a mask of `forward_dct` (the address of its bytes) to one in zigzag order, without DC."""
    found = np.int64(0)
    for byte in range(8):
        found |= np.int64(load_u64(masks + 8 * (256 * byte + np.int64(load_u8(mask + byte)))))
    return found & ~np.int64(1)


@compiled
def _padded_row(pixels, row, buffer):
    """Copy a row of RGB to a row of bytes that is longer; the last pixel fills the rest."""
    width = pixels.shape[1]
    copy_bytes(buffer.ctypes.data, pixels[row].ctypes.data, 3 * width)
    for place in range(3 * width, buffer.size):
        buffer[place] = buffer[place - 3]


@compiled
def _fill_planes(pixels, first, rows, luma, chroma):
    """A row of MCUs as planes; below the picture's end the planes' last rows go on.

    Args:
        pixels: uint8[height, width, 3].
        first: its first row.
        rows: uint8[2, 3 * w], room for two rows, w a multiple of STEP.
        luma: uint8[16, w], chroma: uint8[2, 8, w / 2], set.
    """
    height = pixels.shape[0]
    stride = luma.shape[1]
    for pair in range(_UNIT // 2):
        upper = first + 2 * pair
        if upper >= height:
            luma[2 * pair :] = luma[2 * pair - 1]
            chroma[:, pair:] = chroma[:, pair - 1 : pair]
            return
        lower = min(upper + 1, height - 1)
        _padded_row(pixels, upper, rows[0])
        _padded_row(pixels, lower, rows[1])
        convert_rows(
            rows[0].ctypes.data,
            rows[1].ctypes.data,
            stride,
            luma[2 * pair].ctypes.data,
            luma[2 * pair + 1].ctypes.data,
            chroma[0, pair].ctypes.data,
            chroma[1, pair].ctypes.data,
        )


@compiled
def _unit_tokens(samples, strides, block_rows, block_columns, tables, previous, tokens, work):
    """One MCU's tokens, from the address `tokens` on; the address behind them.

    Args:
        samples: addresses of the MCU's first sample of luma and of each chroma.
        strides: bytes from row to row of luma, and of chroma.
        block_rows, block_columns: of luma that belong to the picture, 1 or 2. A block that does not has the
            DC coefficient of the one before it, and nothing else.
        tables: addresses of the divisors for luma and for chroma, of the masks and the order of `zigzag_order`.
        previous: int64[3], the DC coefficients before, which are replaced.
        work: addresses of int16[64], of a mask's eight bytes, and of the amounts.
    """
    coefficients, mask, amounts = work
    luma_divisors, chroma_divisors, masks, natural = tables
    for block in range(4):
        row, column = block >> 1, block & 1
        difference, places = np.int64(0), np.int64(0)
        if row < block_rows and column < block_columns:
            start = samples[0] + 8 * (row * strides[0] + column)
            forward_dct(coefficients, mask, start, strides[0], luma_divisors)
            places = _zigzag_mask(mask, masks)
            value = _load_coefficient(coefficients)
            difference = value - previous[0]
            previous[0] = value
        tokens = _block_tokens(coefficients, places, difference, _LUMA, tokens, amounts, natural)
    for component in range(1, 3):
        start = samples[1] if component == 1 else samples[2]
        forward_dct(coefficients, mask, start, strides[1], chroma_divisors)
        value = _load_coefficient(coefficients)
        difference = value - previous[component]
        previous[component] = value
        places = _zigzag_mask(mask, masks)
        tokens = _block_tokens(coefficients, places, difference, _CHROMA, tokens, amounts, natural)
    return tokens


@compiled
def encode_jpeg(header, scan, pixels, divisors, order, interval, thread):
    """An image as a baseline JPEG, 4:2:0, with a restart marker every `interval` MCUs.

    Args:
        header: uint8[n], a header of a JPEG of three components, 4:2:0, of the image's size.
        scan: its bytes, up to the coded data.
        pixels: uint8[height, width, 3], contiguous, RGB.
        divisors: uint16[2, 3, 64], of luma and chroma (`ffx.kernels.forward_dct.divisors`).
        order: what `zigzag_order` gives.
        interval: 1 to 65535.
        thread: address of the thread's words.

    Returns:
        `uint8[m]`, or an empty array where there is no memory.
    """
    height, width = pixels.shape[0], pixels.shape[1]
    down, across = (height + _UNIT - 1) // _UNIT, (width + _UNIT - 1) // _UNIT
    stride = (width + STEP - 1) // STEP * STEP
    work = scratch(thread, _TOKENS_AREA, _WORK_BYTES + _TOKEN_BYTES * _BLOCK_TOKENS * 6 * down * across)
    if work == 0:
        return np.empty(0, np.uint8)
    address = work + _WORK_BYTES
    rows = np.empty((2, 3 * stride), np.uint8)
    luma, chroma = np.empty((_UNIT, stride), np.uint8), np.empty((2, _UNIT // 2, stride // 2), np.uint8)
    amounts, previous = np.zeros(AMOUNTS, np.int64), np.zeros(3, np.int64)
    stops = np.empty((down * across + interval - 1) // interval, np.int64)
    tables = (divisors[0].ctypes.data, divisors[1].ctypes.data, order[1].ctypes.data, order[0].ctypes.data)
    # No arrays: numba gives an array's memory back as soon as nothing but its address is used.
    places = (work, work + _MASK_PLACE, amounts.ctypes.data)
    tokens = address
    for unit_row in range(down):
        _fill_planes(pixels, _UNIT * unit_row, rows, luma, chroma)
        block_rows = min((height + 7) // 8 - 2 * unit_row, 2)
        for column in range(across):
            unit = unit_row * across + column
            if unit % interval == 0:
                previous[:] = 0
                if unit > 0:
                    stops[unit // interval - 1] = (tokens - address) // _TOKEN_BYTES
            samples = (
                luma.ctypes.data + _UNIT * column,
                chroma[0].ctypes.data + _UNIT // 2 * column,
                chroma[1].ctypes.data + _UNIT // 2 * column,
            )
            block_columns = min((width + 7) // 8 - 2 * column, 2)
            tokens = _unit_tokens(
                samples, (stride, stride // 2), block_rows, block_columns, tables, previous, tokens, places
            )
    count = (tokens - address) // _TOKEN_BYTES
    stops[-1] = count
    return write_jpeg(header, scan, 3, interval, array_at(address, (count,), np.uint32), stops, amounts)
