"""What is done to a sound file: every mutation knows what stands where, and `mend` makes checksums right again."""

import json
import random
import string
from collections.abc import Callable

import numpy as np

from ffx.format import trailer as trailer_module
from ffx.kernels.checksum import xxh64
from tests.format.beton import PAGE
from tests.fuzz.canvas import Canvas
from tests.fuzz.seed_files import SeedFile

__all__ = ["MUTATIONS", "mend", "mutate"]

_FOOTER = trailer_module._FOOTER
_ROW_BYTES, _TYPE_LENGTH = 24, 256


def _value(seed: SeedFile, generator: random.Random, width: int, now: int) -> int:
    """A number that tests a limit."""
    most = (1 << 8 * width) - 1
    kind = generator.randrange(6)
    if kind == 0:
        return generator.choice([0, 1, 2, most - 1, most, most >> 1, (most >> 1) + 1, 1 << 63, 1 << 32, 1 << 31])
    if kind == 1:
        return now + generator.choice([-24, -8, -1, 1, 8, 24, now, -now // 2])
    if kind == 2:
        return now ^ (1 << generator.randrange(8 * width))
    if kind == 3:
        return generator.choice(seed.landmarks) + generator.choice([-1, 0, 0, 1])
    if kind == 4:
        other = generator.choice(seed.spans)
        return seed.canvas.word(other.offset, other.width)
    return generator.getrandbits(8 * width) >> generator.randrange(8 * width)


def _integer(seed: SeedFile, generator: random.Random) -> None:
    span = generator.choice(seed.spans)
    now = seed.canvas.word(span.offset, span.width)
    seed.canvas.put_word(span.offset, span.width, _value(seed, generator, span.width, now))


def _same_span(seed: SeedFile, generator: random.Random) -> None:
    """The same number in all records: counts and sizes that agree with each other."""
    span = generator.choice(seed.spans)
    now = seed.canvas.word(span.offset, span.width)
    value = _value(seed, generator, span.width, now)
    for other in seed.spans:
        if other.what == span.what:
            seed.canvas.put_word(other.offset, other.width, value)


def _pointer_and_row(seed: SeedFile, generator: random.Random) -> None:
    """A pointer or size that stands in several places gets the same new value in all of them."""
    span = generator.choice(seed.spans)
    now = seed.canvas.word(span.offset, span.width)
    value = _value(seed, generator, span.width, now)
    for other in seed.spans:
        if other.width == span.width and seed.canvas.word(other.offset, other.width) == now:
            seed.canvas.put_word(other.offset, other.width, value)


def _records(seed: SeedFile, generator: random.Random) -> None:
    """Records swapped, or one put in another's place."""
    start, size, count = generator.choice(seed.records)
    if not count:
        return
    first, second = (start + size * generator.randrange(count) for _ in range(2))
    one, other = seed.canvas.get(first, size), seed.canvas.get(second, size)
    seed.canvas.put(first, other)
    if generator.random() < 0.5:
        seed.canvas.put(second, one)


def _counts(seed: SeedFile, generator: random.Random) -> None:
    """A row more or fewer, at the table's beginning or end; a sample or a field more or fewer."""
    canvas, kind = seed.canvas, generator.randrange(6)
    if kind == 0:
        canvas.resize(canvas.length - _ROW_BYTES * generator.randint(1, 3))
    elif kind == 1:
        canvas.put(canvas.length, canvas.get(canvas.length - _ROW_BYTES, _ROW_BYTES))
    elif kind == 2:
        canvas.put_word(16, 8, canvas.word(16, 8) + _ROW_BYTES * generator.choice([-1, 1]))
    elif kind == 3:
        canvas.put_word(8, 8, canvas.word(8, 8) + generator.choice([-1, 1, 2]))
    elif kind == 4:
        canvas.put_word(2, 2, canvas.word(2, 2) + generator.choice([-1, 1]))
    else:
        _, size, _ = seed.records[1]
        canvas.put_word(8, 8, canvas.word(8, 8) + 1)
        place = seed.table_start - 5 * 8
        if seed.has_trailer:
            canvas.put_word(place, 8, canvas.word(place, 8) + size)


def _length(seed: SeedFile, generator: random.Random) -> None:
    """The file cut, or longer."""
    canvas, kind = seed.canvas, generator.randrange(4)
    if kind == 0:
        canvas.resize(generator.choice(seed.landmarks) + generator.choice([-1, 0, 1]))
    elif kind == 1:
        canvas.resize(generator.randrange(canvas.length + 1))
    elif kind == 2:
        canvas.resize(max(0, canvas.length - generator.randrange(200)))
    else:
        canvas.put(canvas.length, generator.randbytes(generator.choice([1, 8, 23, 24, 48, 100])))


def _bytes(seed: SeedFile, generator: random.Random) -> None:
    """Some bytes anywhere but in the pages' gaps."""
    canvas = seed.canvas
    areas = [(0, seed.data_start), (seed.data_end, canvas.length), (seed.data_start, seed.data_start + 100)]
    first, stop = generator.choice(areas)
    for _ in range(generator.randint(1, 4)):
        place = generator.randrange(first, max(stop, first + 1))
        now = canvas.get(place, 1) or b"\0"
        canvas.put(place, bytes([now[0] ^ generator.choice([1, 0x80, 0xFF, generator.randrange(256)])]))


def _splice(seed: SeedFile, generator: random.Random) -> None:
    """A part of the file in another place."""
    canvas = seed.canvas
    source, target = (max(0, generator.choice(seed.landmarks)) for _ in range(2))
    canvas.put(target, canvas.get(source, generator.choice([24, 80, 1041, 200, canvas.length - source])))


def _table_elsewhere(seed: SeedFile, generator: random.Random) -> None:
    """The allocation table on another page, or right behind the metadata."""
    canvas = seed.canvas
    table = canvas.get(seed.table_start, canvas.length - seed.table_start)
    start = generator.choice([PAGE, 2 * PAGE, 3 * PAGE, 4 * PAGE, seed.data_start, seed.table_start + 8, seed.data_end])
    canvas.resize(min(canvas.length, start))
    canvas.put(start, table)
    canvas.put_word(16, 8, start)


def _pages(seed: SeedFile, generator: random.Random) -> None:
    """A row moved to the edge of a page; the file has more of them."""
    start, size, count = seed.records[2]
    if count:
        row = start + size * generator.randrange(count)
        old = seed.canvas.word(row + 8, 8)
        new = PAGE * generator.randint(1, 4) - generator.randint(0, 4)
        for span in seed.spans:
            if span.width == 8 and seed.canvas.word(span.offset, 8) == old:
                seed.canvas.put_word(span.offset, 8, new)


_TYPE_NAMES = [
    "<f4",
    "|O",
    "<f3",
    ">c32",
    "<f16",
    "|S0",
    "|V9999999",
    "<U999999",
    "<M8[furlong]",
    "<m8[25s]",
    "<M8[0s]",
]
_TYPE_NAMES += ["<M8[999999Y]", "<m8[μs]", "<M8", "|b1", "=i8", "i4", "<i4,<i4", "(2,)f4", "|u8", "|S1", "é", "<M8[xx]"]
_TYPES = ['[["", "<f4", [2]]]', '[["a", "<f4"]]', "[]", "null", "1e999", '"<f4"', "[" * 700, '[["", ["<f4"]]]', "{}"]
_TYPES += ['[[null, "<f4"]]', '[["", null]]', '[["", "<f4"], ["", "<f4"]]', '[["", "<f4"]] ', "\xff", "\0", '[["",']


def _array_type(seed: SeedFile, generator: random.Random) -> None:
    """Another dtype, or none."""
    if not seed.texts:
        return
    place = generator.choice(seed.texts)
    name = generator.choice(_TYPE_NAMES)
    if generator.random() < 0.3:
        name = generator.choice("<>|=") + generator.choice("biufcSUVmMOe?") + str(generator.randrange(40))
    text = json.dumps([["", name]]) if generator.random() < 0.7 else generator.choice(_TYPES)
    packed = text.encode("latin-1", "replace") if generator.random() < 0.9 else text.encode()
    seed.canvas.put_word(place + _TYPE_LENGTH, 8, len(packed))
    seed.canvas.put(place + _TYPE_LENGTH + 8, packed[: 1024 - 264])


def _shape(seed: SeedFile, generator: random.Random) -> None:
    """Extents of an array: many, none between others, huge ones."""
    if not seed.texts:
        return
    place = generator.choice(seed.texts)
    for _ in range(generator.choice([1, 2, 32])):
        extent = generator.choice([0, 1, 2, 1 << 16, 1 << 31, 1 << 63, (1 << 64) - 1])
        seed.canvas.put_word(place + 8 * generator.randrange(32), 8, extent)


_NAMES = [b"", b"..", b"../x", b"a/../b", b"a\\..\\b", b"\x07", b"a\0b", b"caf\xe9", b"a" * 16, b"a{b}", b"%s", b"\x7f"]


def _name(seed: SeedFile, generator: random.Random) -> None:
    """Another name in a descriptor."""
    place = generator.choice(seed.names)
    name = generator.choice(_NAMES)
    if generator.random() < 0.3:
        name = seed.canvas.get(generator.choice(seed.names), 16)
    seed.canvas.put(place, name[:16].ljust(16, b"\0"))


def _extension(seed: SeedFile, generator: random.Random) -> None:
    """ffx's own arguments of an image field, right or wrong, in any field."""
    place = generator.choice(seed.names) + 16
    version, type_id = generator.choice([0, 1, 2]), generator.choice([0, 2, 255])
    seed.canvas.put(place - 17, bytes([generator.choice([2, 255])]))
    packed = b"\x89ffx\r\n+\n" + version.to_bytes(4, "little") + type_id.to_bytes(4, "little")
    seed.canvas.put(place, packed + bytes([generator.choice([0, 0, 1])]))


def _json_value(generator: random.Random, depth: int = 0) -> object:
    kind = generator.randrange(8 if depth < 3 else 5)
    if kind < 5:
        return (None, generator.randrange(-9, 9), 1e300, "".join(generator.choices(string.printable, k=5)), "\ud800")[
            kind
        ]
    values = [_json_value(generator, depth + 1) for _ in range(generator.randrange(4))]
    return values if kind < 7 else {str(number): value for number, value in enumerate(values)}


_DESCRIPTIONS = [b"", b"{", b"[]", b"null", b"[" * 5000, b'{"a":' * 3000, b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}", b"NaN"]
_DESCRIPTIONS += [
    b"1" * 5000,
    b'{"settings": ' + b"9" * 4400 + b"}",
    b'{"class_names": ["\\ud800"]}',
    b"{}\0",
    b"{} {}",
]


def _description(seed: SeedFile, generator: random.Random) -> bytes:
    if generator.random() < 0.4:
        return generator.choice(_DESCRIPTIONS)
    keys = generator.sample(["class_names", "settings", "field_names", "other"], generator.randrange(4))
    about = {key: _json_value(generator) for key in keys}
    if "field_names" in about and generator.random() < 0.7:
        names = [seed.canvas.get(place, 16).rstrip(b"\0").decode("latin-1") for place in seed.names]
        about["field_names"] = names
        if generator.random() < 0.7:
            names[generator.randrange(len(names))] += generator.choice(["", "longer than it was", "/../x", "\n", "é"])
    return json.dumps(about).encode()


def _trailer(seed: SeedFile, generator: random.Random) -> None:
    """Another trailer: sections left out, doubled, of another length, unknown, with another description."""
    if not seed.has_trailer:
        return
    canvas, table_start = seed.canvas, seed.table_start
    body = canvas.get(seed.data_end, table_start - _FOOTER.itemsize - seed.data_end)
    try:
        sections = [(tag, bytes(data)) for tag, data in trailer_module._sections(body).items()]
    except ValueError:
        return
    for _ in range(generator.randint(1, 2)):
        kind, number = generator.randrange(5), generator.randrange(len(sections) or 1)
        if kind == 0:
            sections.append((b"about", _description(seed, generator)))
        elif kind == 1:
            count = generator.choice([1, 1, 1, 40])
            sections += [(b"%d" % other, generator.randbytes(9 % count)) for other in range(count)]
            sections.append((generator.choice([b"future", b"\0", b"about", b"padding"]), generator.randbytes(9)))
        elif not sections:
            continue
        elif kind == 2:
            sections.pop(number)
        elif kind == 3:
            tag, data = sections[number]
            sections[number] = (tag, data[: generator.randrange(len(data) + 1)] if data else b"12345678")
        else:
            generator.shuffle(sections)
    body = b"".join(trailer_module._pack_section(tag, data) for tag, data in sections)
    if generator.random() < 0.1:
        body = body[: generator.randrange(len(body) + 1)]
    _rebuild(seed, body)


def _rebuild(seed: SeedFile, body: bytes) -> None:
    """Another trailer and the table behind it."""
    canvas = seed.canvas
    table = canvas.get(seed.table_start, canvas.length - seed.table_start)
    packed = canvas.get(seed.table_start - _FOOTER.itemsize, _FOOTER.itemsize)
    footer = np.frombuffer(packed.ljust(_FOOTER.itemsize, b"\0"), _FOOTER).copy()
    footer["trailer_bytes"] = len(body)
    start = seed.data_end + len(body) + _FOOTER.itemsize
    canvas.put_word(16, 8, start)
    packed = body + footer.tobytes() + table
    canvas.put(seed.data_end, packed)
    canvas.resize(seed.data_end + len(packed))


def _footer(seed: SeedFile, generator: random.Random) -> None:
    """A footer where FFCV has none, or none where ffx has one."""
    if seed.has_trailer:
        seed.canvas.put(
            seed.table_start - _FOOTER.itemsize, generator.choice([bytes(8), bytes(80), b"\x89ffx\r\n\x1a\r"])
        )
        return
    footer = np.zeros(1, _FOOTER)
    footer["magic"], footer["version"] = trailer_module._MAGIC, generator.choice([1, 1, 1, 2])
    start = generator.choice([seed.data_end, seed.data_start, seed.table_start - 80, seed.table_start - 200])
    footer["trailer_start"], footer["trailer_bytes"] = max(0, start), max(0, seed.table_start - 80 - start)
    footer["head_bytes"] = seed.data_start
    seed.canvas.put(seed.table_start - 80, footer.tobytes())


MUTATIONS: tuple[tuple[Callable[[SeedFile, random.Random], None], int], ...] = (
    (_integer, 8),
    (_same_span, 2),
    (_pointer_and_row, 4),
    (_records, 3),
    (_counts, 3),
    (_length, 3),
    (_bytes, 3),
    (_splice, 1),
    (_table_elsewhere, 1),
    (_pages, 1),
    (_array_type, 2),
    (_shape, 1),
    (_name, 2),
    (_extension, 1),
    (_trailer, 3),
    (_footer, 1),
)
_CALLS, _WEIGHTS = zip(*MUTATIONS)


def mutate(seed: SeedFile, generator: random.Random) -> None:
    """One to four mutations; in half of the cases the checksums hold again."""
    for mutation in generator.choices(_CALLS, _WEIGHTS, k=generator.choice([1, 1, 1, 2, 2, 3, 4])):
        mutation(seed, generator)
    if generator.random() < 0.5:
        mend(seed.canvas)


def mend(canvas: Canvas) -> None:
    """Make all checksums of the tables right, as far as the trailer says where they are."""
    table_start = canvas.word(16, 8)
    place = table_start - _FOOTER.itemsize
    packed = canvas.get(place, _FOOTER.itemsize)
    if len(packed) < _FOOTER.itemsize or packed[:8] != trailer_module._MAGIC:
        return
    footer = np.frombuffer(packed, _FOOTER).copy()
    first, count, head = (int(footer[name][0]) for name in ("trailer_start", "trailer_bytes", "head_bytes"))
    if max(count, head) <= canvas.length:
        footer["trailer_checksum"] = xxh64(canvas.get(first, count))
        footer["head_checksum"] = xxh64(canvas.get(0, head))
    footer["table_checksum"] = xxh64(canvas.get(table_start, canvas.length - table_start))
    footer["footer_checksum"] = xxh64(footer.tobytes()[:-8])
    canvas.put(place, footer.tobytes())
