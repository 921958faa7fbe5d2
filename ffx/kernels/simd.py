"""Vector building blocks for kernels: LLVM vector code through numba's `@intrinsic`.

LLVM does not find the rounding 16-bit multiplication (`pmulhrsw`), the pairwise multiply-add
(`pmaddwd`) and the saturating packs by itself, and a resize lives on them. So each operation here has
an x86 form, which asks for the instruction by name, and a portable twin in plain vector code with
exactly the same results. Which one is compiled depends on the processor that numba compiles for;
numba's disk cache is keyed by that processor and its features, so compiled code never meets a
processor that lacks an instruction. `NUMBA_CPU_NAME=generic NUMBA_CPU_FEATURES=` gives the twins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "Vectors",
    "i8",
    "i16",
    "i32",
    "i64",
    "vector_kernel",
]

i8, i16, i32, i64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))


# Of two vectors of 16 elements one behind the other: 8 of each in turns.
_BY_LANE = [*range(8), *range(16, 24), *range(8, 16), *range(24, 32)]


def _constant(kind: ir.VectorType, values: Sequence[int]) -> ir.Constant:
    return ir.Constant(kind, [ir.Constant(kind.element, value) for value in values])


class Vectors:
    """Emits vector code into one function for one processor.

    Vectors are llvmlite values of `ir.VectorType`; addresses are i64 values; nothing needs alignment.
    """

    def __init__(self, context, builder: ir.IRBuilder, portable: bool = False) -> None:
        self.context = context
        self.builder = builder
        features = context.codegen().magic_tuple()[2].split(",")
        self.has_avx2 = not portable and "+avx2" in features
        self.has_avx512 = self.has_avx2 and "+avx512bw" in features

    # Memory and shape

    def at(self, address: ir.Value, offset: int) -> ir.Value:
        """The address `offset` bytes on."""
        return self.builder.add(address, ir.Constant(i64, offset))

    def load(self, address: ir.Value, kind: ir.Type) -> ir.Value:
        """A value of type `kind`."""
        value = self.builder.load(self.builder.inttoptr(address, kind.as_pointer()), typ=kind)
        value.align = 1
        return value

    def store(self, value: ir.Value, address: ir.Value) -> None:
        """Write a value."""
        self.builder.store(value, self.builder.inttoptr(address, value.type.as_pointer())).align = 1

    def prefetch(self, address: ir.Value) -> None:
        """Ask for the cache line at an address; any address is allowed."""
        pointer = i8.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, i32, i32, i32])
        function = self.builder.module.declare_intrinsic("llvm.prefetch", (pointer,), kind)
        # To read, to be kept in all caches, data.
        self.builder.call(
            function, [self.builder.inttoptr(address, pointer), *(ir.Constant(i32, number) for number in (0, 3, 1))]
        )

    def fill(self, kind: ir.VectorType, value: int) -> ir.Constant:
        """A constant vector of one number."""
        return _constant(kind, [value] * kind.count)

    def spread(self, value: ir.Value, count: int) -> ir.Value:
        """A vector of `count` times a scalar."""
        kind = ir.VectorType(value.type, count)
        single = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(i32, 0))
        return self.pick(single, None, [0] * count)

    def pick(self, first: ir.Value, second: ir.Value | None, indices: Sequence[int]) -> ir.Value:
        """A vector of chosen elements of one or two vectors (the second's count on from the first's)."""
        other = ir.Constant(first.type, ir.Undefined) if second is None else second
        return self.builder.shuffle_vector(first, other, _constant(ir.VectorType(i32, len(indices)), indices))

    def halves(self, value: ir.Value) -> tuple[ir.Value, ir.Value]:
        """The lower and the upper half of a vector."""
        count = value.type.count
        return self.pick(value, None, range(count // 2)), self.pick(value, None, range(count // 2, count))

    def join(self, low: ir.Value, high: ir.Value) -> ir.Value:
        """Two vectors as one of twice the length."""
        return self.pick(low, high, range(2 * low.type.count))

    def widen(self, value: ir.Value, element: ir.IntType) -> ir.Value:
        """Zero-extend each element."""
        return self.builder.zext(value, ir.VectorType(element, value.type.count))

    def _named(self, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
        function = self.builder.module.globals.get(name)
        if function is None:
            kind = ir.FunctionType(result, [argument.type for argument in arguments])
            function = ir.Function(self.builder.module, kind, name)
        return self.builder.call(function, arguments)

    def repeat(self, count: ir.Value, values: list[ir.Value], step: Callable) -> list[ir.Value]:
        """A loop: `values = step(index, values)` for each index below `count`, at least once."""
        builder, before = self.builder, self.builder.block
        loop, after = (builder.append_basic_block(name) for name in ("repeat", "repeated"))
        builder.branch(loop)
        builder.position_at_end(loop)
        index = builder.phi(i64)
        current = [builder.phi(value.type) for value in values]
        following = step(index, current)
        advanced = builder.add(index, ir.Constant(i64, 1))
        for place, first, later in zip(
            [index, *current], [ir.Constant(i64, 0), *values], [advanced, *following], strict=True
        ):
            place.add_incoming(first, before)
            place.add_incoming(later, builder.block)
        builder.cbranch(builder.icmp_signed("<", advanced, count), loop, after)
        builder.position_at_end(after)
        return following

    # Arithmetic

    def multiply_round(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """`(left * right + 2**14) >> 15` of int16 elements."""
        count = left.type.count
        if self.has_avx512 and count == 32:
            return self._named("llvm.x86.avx512.pmul.hr.sw.512", left.type, left, right)
        if self.has_avx2 and count == 16:
            return self._named("llvm.x86.avx2.pmul.hr.sw", left.type, left, right)
        if self.has_avx2 and count > 16:
            pairs = zip(self.halves(left), self.halves(right), strict=True)
            return self.join(*(self.multiply_round(a, b) for a, b in pairs))
        builder, wide = self.builder, ir.VectorType(i32, count)
        product = builder.mul(builder.sext(left, wide), builder.sext(right, wide))
        product = builder.ashr(builder.add(product, self.fill(wide, 1 << 14)), self.fill(wide, 15))
        return builder.trunc(product, left.type)

    def multiply_add_pairs(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """`left[2i] * right[2i] + left[2i+1] * right[2i+1]` of int16 elements, as int32."""
        count = left.type.count
        half = ir.VectorType(i32, count // 2)
        if self.has_avx512 and count == 32:
            return self._named("llvm.x86.avx512.pmaddw.d.512", half, left, right)
        if self.has_avx2 and count == 16:
            return self._named("llvm.x86.avx2.pmadd.wd", half, left, right)
        if self.has_avx2 and count > 16:
            pairs = zip(self.halves(left), self.halves(right), strict=True)
            return self.join(*(self.multiply_add_pairs(a, b) for a, b in pairs))
        builder, wide = self.builder, ir.VectorType(i32, count)
        product = builder.mul(builder.sext(left, wide), builder.sext(right, wide))
        even, odd = (self.pick(product, None, range(start, count, 2)) for start in (0, 1))
        return builder.add(even, odd)

    def pack_words(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """int32[8] twice, each held to int16, lane by lane of 128 bits: left 0-3, right 0-3, left 4-7, right 4-7."""
        if self.has_avx2:
            return self._named("llvm.x86.avx2.packssdw", ir.VectorType(i16, 16), left, right)
        builder, value = self.builder, self.pick(left, right, [*range(4), *range(8, 12), *range(4, 8), *range(12, 16)])
        least, most = self.fill(value.type, -(1 << 15)), self.fill(value.type, (1 << 15) - 1)
        value = builder.select(builder.icmp_signed(">", value, least), value, least)
        value = builder.select(builder.icmp_signed("<", value, most), value, most)
        return builder.trunc(value, ir.VectorType(i16, 16))

    def pack_bytes(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """int16[16] twice, each held to 0 … 255, as bytes in the order left 0-15, right 0-15."""
        if self.has_avx2:
            packed = self._named("llvm.x86.avx2.packuswb", ir.VectorType(i8, 32), left, right)
            lanes = self.builder.bitcast(packed, ir.VectorType(i64, 4))
            return self.builder.bitcast(self.pick(lanes, None, [0, 2, 1, 3]), packed.type)
        builder, value = self.builder, self.join(left, right)
        zero, most = self.fill(value.type, 0), self.fill(value.type, 255)
        value = builder.select(builder.icmp_signed(">", value, zero), value, zero)
        value = builder.select(builder.icmp_signed("<", value, most), value, most)
        return builder.trunc(value, ir.VectorType(i8, 32))

    def pack_bytes_by_lane(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """int16[16] twice, each held to 0 … 255, by lanes of 128 bits: left 0-7, right 0-7, left 8-15, right 8-15."""
        if self.has_avx2:
            return self._named("llvm.x86.avx2.packuswb", ir.VectorType(i8, 32), left, right)
        return self.pick(self.pack_bytes(left, right), None, _BY_LANE)

    def pack_signed_bytes(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """int16[16] twice, each held to -128 … 127, lane by lane of 128 bits as `pack_bytes_by_lane`."""
        if self.has_avx2:
            return self._named("llvm.x86.avx2.packsswb", ir.VectorType(i8, 32), left, right)
        builder, value = self.builder, self.pick(self.join(left, right), None, _BY_LANE)
        least, most = self.fill(value.type, -128), self.fill(value.type, 127)
        value = builder.select(builder.icmp_signed(">", value, least), value, least)
        value = builder.select(builder.icmp_signed("<", value, most), value, most)
        return builder.trunc(value, ir.VectorType(i8, 32))

    def multiply_high(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """`left * right >> 16` of int16 elements."""
        # LLVM knows this one.
        builder, wide = self.builder, ir.VectorType(i32, left.type.count)
        product = builder.mul(builder.sext(left, wide), builder.sext(right, wide))
        return builder.trunc(builder.ashr(product, self.fill(wide, 16)), left.type)

    def pick_in_lanes(self, value: ir.Value, indices: Sequence[int]) -> ir.Value:
        """Chosen bytes of each 16 of a vector of 32, the same for both; 0 for an index of -1."""
        if self.has_avx2:
            places = _constant(value.type, [index & 255 for index in indices] * 2)
            return self._named("llvm.x86.avx2.pshuf.b", value.type, value, places)
        both = [lane + index if index >= 0 else 32 for lane in (0, 16) for index in indices]
        return self.pick(value, self.fill(value.type, 0), both)

    def choose_bytes(self, sixteen: ir.Value, places: ir.Value) -> ir.Value:
        """Bytes of a vector of 16 chosen at run time by u8[32]: place `p & 15`, or 0 where `p` is 128 or more."""
        if self.has_avx2:
            twice = self.pick(sixteen, None, [*range(16), *range(16)])
            return self._named("llvm.x86.avx2.pshuf.b", places.type, twice, places)
        builder, chosen = self.builder, ir.Constant(places.type, ir.Undefined)
        for lane in range(places.type.count):
            place = builder.extract_element(places, ir.Constant(i32, lane))
            index = builder.zext(builder.and_(place, ir.Constant(i8, 15)), i32)
            byte = builder.extract_element(sixteen, index)
            byte = builder.select(builder.icmp_signed("<", place, ir.Constant(i8, 0)), ir.Constant(i8, 0), byte)
            chosen = builder.insert_element(chosen, byte, ir.Constant(i32, lane))
        return chosen

    def saturate_to_bytes(self, value: ir.Value) -> ir.Value:
        """int32 elements, held to 0 … 255, as bytes in the same order."""
        builder, count = self.builder, value.type.count
        if self.has_avx2 and not self.has_avx512 and count == 16:
            # The packs work within 128-bit lanes: lanes of (a, b) become a0 b0 a1 b1 and so on.
            # Signed first: an int32 above 32767 must not become a negative int16 on the way.
            words = self._named("llvm.x86.avx2.packssdw", ir.VectorType(i16, 16), *self.halves(value))
            words = builder.bitcast(words, ir.VectorType(i64, 4))
            words = builder.bitcast(self.pick(words, None, [0, 2, 1, 3]), ir.VectorType(i16, 16))
            return self._named("llvm.x86.sse2.packuswb.128", ir.VectorType(i8, 16), *self.halves(words))
        zero, most = self.fill(value.type, 0), self.fill(value.type, 255)
        value = builder.select(builder.icmp_signed(">", value, zero), value, zero)
        value = builder.select(builder.icmp_signed("<", value, most), value, most)
        return builder.trunc(value, ir.VectorType(i8, count))

    # What planes need

    def interleave(self, left: ir.Value, right: ir.Value, upper: bool) -> ir.Value:
        """Elements of two vectors in turns, lane by lane of 128 bits: of each lane the lower or the upper half."""
        count = left.type.count
        lane = 128 // left.type.element.width
        half = lane // 2
        starts = [start + half * upper for start in range(0, count, lane)]
        places = [place for start in starts for place in range(start, start + half)]
        return self.pick(left, right, [place + other for place in places for other in (0, count)])

    def multiply_high_unsigned(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """`left * right >> 16` of uint16 elements."""
        # LLVM finds the instruction by itself.
        builder, wide = self.builder, ir.VectorType(i32, left.type.count)
        product = builder.mul(builder.zext(left, wide), builder.zext(right, wide))
        return builder.trunc(builder.lshr(product, self.fill(wide, 16)), left.type)

    def add_saturated(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """Sums of int16 elements, held to int16."""
        return self._named(f"llvm.sadd.sat.v{left.type.count}i16", left.type, left, right)

    def subtract_saturated(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """Differences of int16 elements, held to int16."""
        return self._named(f"llvm.ssub.sat.v{left.type.count}i16", left.type, left, right)


def vector_kernel(body: Callable[..., None], arity: int, portable: bool = False):
    """An intrinsic for njit code that takes one tuple of `arity` int64 words and runs `body`.

    `body(vectors, *words)` emits the code with a `Vectors`; nothing is returned. With `portable` the
    twins are used on every processor.
    """

    @intrinsic
    def kernel(typing_context, arguments):
        if not isinstance(arguments, types.BaseTuple) or len(arguments) != arity:
            return None

        def codegen(context, builder, signature, values):
            given = zip(cgutils.unpack_tuple(builder, values[0]), signature.args[0], strict=True)
            words = [context.cast(builder, value, numba_type, types.int64) for value, numba_type in given]
            body(Vectors(context, builder, portable), *words)
            return context.get_dummy_value()

        return types.void(arguments), codegen

    return kernel
