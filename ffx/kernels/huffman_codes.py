"""Huffman codes as JPEG has them (ITU-T T.81, annexes C and K.2): tables for decoding, the best code for given counts.

A table of a JPEG is 16 numbers of codes, one for each length from 1 to 16 bits, and the symbols in the order
of their codes. Nothing here raises: what cannot be a code is reported by the result.
"""

from __future__ import annotations

import numpy as np

from .compiling import compiled

__all__ = ["LONGEST", "LOOK_BITS", "best_code", "decoding_table", "encoding_table"]

LONGEST = 16
# Codes of up to so many bits are found in one look.
LOOK_BITS = 10
_SYMBOLS = 256


@compiled
def decoding_table(counts, symbols, look, bounds):
    """Fill what a decoder needs from a table of a JPEG.

    Args:
        counts: `uint8[16]`, symbols: `uint8[n]` with at least as many symbols as codes.
        look: `uint16[2**LOOK_BITS]`; entry of the next bits: `length << 8 | symbol`, 0 for longer and wrong codes.
        bounds: `int64[2, 18]`; for each length the first code that is longer, and what to add to a code for its
            symbol's place.

    Returns:
        Whether it is a code: not more codes than bits allow.
    """
    look[:] = 0
    bounds[:] = 0
    code, place = 0, 0
    for length in range(1, LONGEST + 1):
        count = int(counts[length - 1])
        if place + count > symbols.size or code + count > 1 << length:
            return False
        bounds[1, length] = place - code
        if length <= LOOK_BITS:
            share = 1 << (LOOK_BITS - length)
            for index in range(count):
                first = (code + index) * share
                look[first : first + share] = length << 8 | int(symbols[place + index])
        code += count
        place += count
        bounds[0, length] = code
        code <<= 1
    return True


@compiled
def _depths(keys, amounts):
    """`int64[65]`: how many of the leaves of a Huffman tree over ascending `amounts` lie at each depth."""
    leaves = keys.size
    weights = np.empty(leaves - 1, np.int64)
    parents = np.zeros(2 * leaves - 1, np.int64)
    leaf, inner = 0, 0
    for made in range(leaves - 1):
        weights[made] = 0
        for _ in range(2):
            # Leaves first where weights are equal: the tree stays as flat as it can.
            if inner >= made or (leaf < leaves and amounts[leaf] <= weights[inner]):
                weights[made] += amounts[leaf]
                parents[leaf] = leaves + made
                leaf += 1
            else:
                weights[made] += weights[inner]
                parents[leaves + inner] = leaves + made
                inner += 1
    depths = np.zeros(2 * leaves - 1, np.int64)
    found = np.zeros(65, np.int64)
    for node in range(2 * leaves - 3, -1, -1):
        depths[node] = depths[parents[node]] + 1
        if node < leaves:
            found[min(depths[node], 64)] += 1
    return found


@compiled
def _shorten(found):
    """Change numbers of codes so that none is longer than `LONGEST` bits (T.81, figure K.3)."""
    for length in range(64, LONGEST, -1):
        while found[length] > 0:
            other = length - 2
            while found[other] == 0:
                other -= 1
            found[length] -= 2
            found[length - 1] += 1
            found[other + 1] += 2
            found[other] -= 1


@compiled
def best_code(amounts):
    """The shortest code for symbols that occur `amounts` (`int64[256]`) times, none of only ones.

    Returns:
        `(counts, symbols)`: `uint8[16]` and `uint8[n]`, a table of a JPEG; equal amounts go by the symbol's number.
    """
    used = 0
    keys = np.empty(_SYMBOLS + 1, np.int64)
    for symbol in range(_SYMBOLS):
        if amounts[symbol] > 0:
            keys[used] = amounts[symbol] << 9 | (_SYMBOLS - 1 - symbol)
            used += 1
    # The code of only ones is forbidden: a symbol that never occurs takes it, the longest.
    keys[used] = 1
    ascending = np.sort(keys[: used + 1])
    found = _depths(ascending, np.maximum(ascending >> 9, 1))
    _shorten(found)
    longest = LONGEST
    while longest > 1 and found[longest] == 0:
        longest -= 1
    found[longest] -= 1
    symbols = np.empty(used, np.uint8)
    for place in range(used):
        symbols[place] = _SYMBOLS - 1 - (ascending[used - place] & 511)
    return found[1 : LONGEST + 1].astype(np.uint8), symbols


@compiled
def encoding_table(counts, symbols, codes):
    """Fill `codes` (`int64[256]`) with `code << 8 | length` of each symbol of a table, 0 for others."""
    codes[:] = 0
    code, place = 0, 0
    for length in range(1, LONGEST + 1):
        for _ in range(counts[length - 1]):
            codes[symbols[place]] = code << 8 | length
            code += 1
            place += 1
        code <<= 1
