"""What fields store for the values they accept, and how they refuse others."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from ffx.errors import FieldError
from ffx.fields import BytesField, FloatField, IntField, JSONField, NDArrayField, RGBImageField, TorchTensorField
from ffx.fields.jpeg_header import read_jpeg_header
from ffx.fields.jpeg_markers import MOST_SEGMENTS
from ffx.fields.rgb_image import resized_size, resizer
from tests.pictures import decode_jpeg, encode_jpeg, make_picture


def encode(field, value, malloc=None):
    """What a field stores: `(record, bytes)`."""
    pieces = []

    def plain_malloc(size):
        pieces.append(np.zeros(size, np.uint8))
        return 4096, pieces[-1]

    record = np.zeros(1, field.metadata_type)
    field.encode(record, value, malloc or plain_malloc)
    return record[0], b"".join(piece.tobytes() for piece in pieces)


# --- Scalars ---


@pytest.mark.parametrize(
    "value", [5, True, np.int8(5), np.uint64(5), np.array(5), np.array([5]), torch.tensor(5), torch.tensor([5]), 5.0]
)
def test_integers_of_any_kind(value):
    assert encode(IntField(), value)[0] == int(np.asarray(value).item())


@pytest.mark.parametrize(
    "value", [5.5, "5", None, 2**63, -(2**63) - 1, [5], np.arange(2), torch.zeros(2), float("nan")]
)
def test_values_that_are_no_integer(value):
    with pytest.raises(FieldError, match="expected an integer"):
        encode(IntField(), value)


@pytest.mark.parametrize(
    "value", [0.1, 3, np.float32(0.5), np.float64(0.1), np.array([0.5]), torch.tensor(0.25), float("inf")]
)
def test_numbers_of_any_kind(value):
    assert encode(FloatField(), value)[0] == float(np.asarray(value).item())


@pytest.mark.parametrize("value", ["x", None, [0.5], np.zeros(2)])
def test_values_that_are_no_number(value):
    with pytest.raises(FieldError, match="expected a number"):
        encode(FloatField(), value)


# --- Bytes and JSON ---


@pytest.mark.parametrize(
    "value",
    [b"abc", bytearray(b"abc"), memoryview(b"abc"), np.frombuffer(b"abc", np.uint8), torch.tensor([97, 98, 99]).byte()],
    ids=lambda value: type(value).__name__,
)
def test_bytes_of_any_kind(value):
    record, stored = encode(BytesField(), value)
    assert (record["ptr"], record["size"], stored) == (4096, 3, b"abc")


def test_empty_bytes():
    record, stored = encode(BytesField(), b"")
    assert (record["size"], stored) == (0, b"")


@pytest.mark.parametrize("value", ["abc", 5, np.arange(3), np.zeros((2, 2), np.uint8), None])
def test_values_that_are_no_bytes(value):
    with pytest.raises(FieldError, match="expected bytes"):
        encode(BytesField(), value)


@pytest.mark.parametrize("value", [{"a": [1, None, "ü\0"]}, [], "text", 1.5, None])
def test_json_is_text_that_ends_with_zero(value):
    record, stored = encode(JSONField(), value)
    assert stored.index(b"\0") == len(stored) - 1 == record["size"] - 1
    assert json.loads(stored[:-1]) == value
    padded = np.frombuffer(stored + bytes(5), np.uint8)
    assert JSONField.unpack(padded) == value
    assert JSONField.unpack(torch.from_numpy(np.stack([padded, padded]))) == [value, value]


def test_values_that_json_cannot_hold():
    with pytest.raises(FieldError, match="JSON"):
        encode(JSONField(), {"a": object()})


@pytest.mark.parametrize("row", [b"", b"{", b"{}", b"{\0", b"\xff\0"])
def test_bytes_that_are_no_json(row):
    with pytest.raises(FieldError, match="JSONField"):
        JSONField.unpack(np.frombuffer(row, np.uint8) if row else np.empty(0, np.uint8))


# --- Arrays ---


def test_arrays_are_stored_in_c_order():
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    for value in (array, np.asfortranarray(array), torch.from_numpy(array), array.reshape(6)):
        record, stored = encode(NDArrayField(np.dtype("<i4"), (2, 3)), value)
        assert (record, stored) == (4096, array.tobytes())


@pytest.mark.parametrize("value", [np.zeros((2, 3)), np.zeros((2, 4), "<i4"), "text", None, [[1, 2, 3], [4, 5, 6.5]]])
def test_arrays_of_another_kind(value):
    with pytest.raises(FieldError, match="expected int32"):
        encode(NDArrayField(np.dtype("<i4"), (2, 3)), value)


def test_tensors_are_stored_as_arrays():
    tensor = torch.arange(4, dtype=torch.int16)
    assert encode(TorchTensorField(torch.int16, (4,)), tensor)[1] == tensor.numpy().tobytes()
    assert encode(TorchTensorField(torch.int16, (4,)), tensor.numpy())[1] == tensor.numpy().tobytes()


def test_tensor_type_that_numpy_lacks():
    with pytest.raises(FieldError, match="bfloat16"):
        TorchTensorField(torch.bfloat16, (4,))


@pytest.mark.parametrize("shape", [(0,), (2, 0), (2**31, 2), (-1,)])
def test_shapes_that_no_file_holds(shape):
    with pytest.raises(FieldError, match="array"):
        NDArrayField(np.dtype("<i4"), shape)


# --- Images ---

PICTURE = make_picture(30, 40)


@pytest.mark.parametrize(
    "value",
    [
        PICTURE,
        np.asfortranarray(PICTURE),
        Image.fromarray(PICTURE),
        torch.from_numpy(PICTURE),
        torch.from_numpy(PICTURE).permute(2, 0, 1),
        cv2.imencode(".png", PICTURE[..., ::-1])[1].tobytes(),
    ],
    ids=["array", "fortran", "PIL", "tensor", "channels first", "PNG bytes"],
)
def test_raw_images_are_their_pixels(value):
    record, stored = encode(RGBImageField("raw"), value)
    assert (record["mode"], record["height"], record["width"], record["data_ptr"]) == (1, 30, 40, 4096)
    assert stored == PICTURE.tobytes()


def test_path_of_an_image(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(PICTURE).save(path)
    for value in (path, str(path)):
        assert encode(RGBImageField("raw"), value)[1] == PICTURE.tobytes()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_other_modes_of_pil_become_rgb(mode):
    image = Image.fromarray(PICTURE).convert(mode)
    assert encode(RGBImageField("raw"), image)[1] == np.asarray(image.convert("RGB")).tobytes()


@pytest.mark.parametrize(
    "value",
    [
        PICTURE[..., 0],
        PICTURE[..., :2],
        PICTURE.astype(np.float32),
        PICTURE[:0],
        np.zeros((1, 65536, 3), np.uint8),
        torch.zeros(3, 4, 5),
        5,
        None,
        b"no image",
        encode_jpeg(PICTURE)[:-200],
    ],
    ids=["grey", "two channels", "float", "empty", "too wide", "float tensor", "int", "None", "bytes", "cut JPEG"],
)
@pytest.mark.parametrize("mode", ["raw", "jpg"])
def test_values_that_are_no_image(value, mode):
    with pytest.raises(FieldError, match=r"expected an (image|encoded)"):
        encode(RGBImageField(mode), value)


def test_jpeg_without_tiles_is_what_opencv_makes():
    for quality in (50, 90):
        record, stored = encode(RGBImageField("jpg", jpeg_quality=quality, tiled=False), PICTURE)
        assert record["mode"] == 0
        assert stored == encode_jpeg(PICTURE, quality)


@pytest.mark.parametrize("size", [(30, 40), (400, 300), (333, 500), (1, 90), (7, 1000), (123, 457)])
@pytest.mark.parametrize("longest", [1, 20, 64, 299, 400])
def test_resize_is_opencv_s_area_mean_of_ffcv_s_size(size, longest):
    picture = make_picture(*size)
    ratio = longest / np.array([size[1], size[0]]).max()
    result = resizer(picture, longest)
    if ratio >= 1:
        assert result is picture
        return
    width, height = np.maximum((ratio * np.array([size[1], size[0]])).astype(int), 1).tolist()
    np.testing.assert_array_equal(result, cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
    assert resized_size(size[1], size[0], longest) == (width, height)


def test_max_resolution_applies_to_every_mode():
    for mode in ("raw", "jpg"):
        record, _ = encode(RGBImageField(mode, max_resolution=20), PICTURE)
        assert (record["height"], record["width"]) == (15, 20)


@pytest.mark.parametrize("threshold, mode", [(None, 1), (30 * 40 * 3, 1), (30 * 40 * 3 - 1, 0)])
def test_smart_compresses_above_its_threshold_in_raw_bytes(threshold, mode):
    for value in (PICTURE, encode_jpeg(PICTURE)):
        assert encode(RGBImageField("smart", smart_threshold=threshold), value)[0]["mode"] == mode


@pytest.mark.parametrize(
    "arguments",
    [
        {"write_mode": "png"},
        {"jpeg_quality": 0},
        {"jpeg_quality": 101},
        {"max_resolution": 0},
        {"compress_probability": 1.5},
        {"compress_probability": float("nan")},
    ],
    ids=str,
)
def test_settings_out_of_range(arguments):
    with pytest.raises(FieldError, match=next(iter(arguments))):
        RGBImageField(**arguments)


# --- JPEG that passes through ---


def pil_jpeg(image, **options):
    import io

    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return stream.getvalue()


RGB = Image.fromarray(PICTURE)
PASSING = {
    "ordinary": encode_jpeg(PICTURE),
    "no subsampling": pil_jpeg(RGB, subsampling=0),
    "optimised": pil_jpeg(RGB, optimize=True),
    "progressive": pil_jpeg(RGB, progressive=True),
    "grey": pil_jpeg(RGB.convert("L")),
    "trailing bytes": encode_jpeg(PICTURE) + b"junk",
    "EXIF": pil_jpeg(RGB, exif=Image.Exif()),
}


@pytest.mark.parametrize("name", PASSING)
def test_suitable_jpeg_is_stored_as_it_is(name):
    data = PASSING[name]
    for value in (data, bytearray(data), memoryview(data)):
        record, stored = encode(RGBImageField("jpg", max_resolution=40, jpeg_quality=5, retile=False), value)
        assert (record["mode"], record["height"], record["width"]) == (0, 30, 40)
        assert stored == data


def test_jpeg_in_memory_with_gaps_is_stored_as_it_is():
    data = PASSING["ordinary"]
    gaps = memoryview(bytes(byte for each in data for byte in (each, 0)))[::2]
    assert encode(RGBImageField("jpg", retile=False), gaps)[1] == data


def test_jpeg_file_is_stored_as_it_is(tmp_path):
    (tmp_path / "a.JPEG").write_bytes(PASSING["ordinary"])
    assert encode(RGBImageField("jpg", retile=False), tmp_path / "a.JPEG")[1] == PASSING["ordinary"]


def rgb_jpeg():
    """A JPEG whose components are red, green and blue, which the Adobe marker says."""
    stream = pil_jpeg(RGB, keep_rgb=True)
    assert read_jpeg_header(stream).components == 3
    return stream


@pytest.mark.parametrize("make", [lambda: pil_jpeg(RGB.convert("CMYK")), rgb_jpeg], ids=["CMYK", "RGB"])
def test_jpeg_in_other_colours_is_encoded_again(make):
    data = make()
    _, stored = encode(RGBImageField("jpg", tiled=False), data)
    import io

    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert stored == encode_jpeg(pixels, 90)


def test_png_named_jpeg_is_encoded():
    data = cv2.imencode(".png", PICTURE[..., ::-1])[1].tobytes()
    assert encode(RGBImageField("jpg", tiled=False), data)[1] == encode_jpeg(PICTURE, 90)


def test_larger_jpeg_is_resized_and_encoded_again():
    data = PASSING["ordinary"]
    record, stored = encode(RGBImageField("jpg", max_resolution=20, tiled=False), data)
    assert (record["height"], record["width"]) == (15, 20)
    assert stored == encode_jpeg(cv2.resize(decode_jpeg(data), (20, 15), interpolation=cv2.INTER_AREA), 90)


def test_pass_through_can_be_switched_off():
    _, stored = encode(RGBImageField("jpg", jpeg_quality=30, pass_through=False, tiled=False), PASSING["ordinary"])
    assert stored == encode_jpeg(decode_jpeg(PASSING["ordinary"]), 30)


def test_raw_mode_decodes_jpeg():
    assert encode(RGBImageField("raw"), PASSING["ordinary"])[1] == decode_jpeg(PASSING["ordinary"]).tobytes()


def test_header_of_every_cut_jpeg_is_none_or_incomplete():
    data = PASSING["EXIF"]
    for length in range(len(data)):
        header = read_jpeg_header(data[:length])
        assert header is None or not header.complete


def test_header_of_endless_segments_is_given_up():
    """Millions of them are read by nobody; fill bytes are passed over at once, however many there are."""
    data = PASSING["ordinary"]
    assert read_jpeg_header(data[:2] + b"\xff\xfe\x00\x02" * MOST_SEGMENTS + data[2:]) is None
    assert read_jpeg_header(data[:2] + b"\xff\xfe\x00\x02" * 1000 + b"\xff" * 1_000_000 + data[2:]).components == 3


def test_header_of_damaged_jpegs_never_raises(generator):
    for name in ("ordinary", "progressive", "EXIF"):
        data = np.frombuffer(PASSING[name], np.uint8)
        for _ in range(300):
            spoilt = data.copy()
            places = generator.integers(0, min(len(data), 700), 3)
            spoilt[places] = generator.integers(0, 256, 3)
            read_jpeg_header(spoilt.tobytes())


# --- Proportion ---


class Draws:
    """A malloc as the writer's: it knows the sample's number in [0, 1)."""

    def __init__(self, number):
        self.number = number

    def __call__(self, size):
        return 0, np.zeros(size, np.uint8)

    def draw(self):
        return self.number


@pytest.mark.parametrize("number, mode", [(0.0, 0), (0.29, 0), (0.3, 1), (0.99, 1)])
def test_proportion_compares_the_sample_s_number(number, mode):
    field = RGBImageField("proportion", compress_probability=0.3)
    assert encode(field, PICTURE, Draws(number))[0]["mode"] == mode


def test_proportion_under_another_writer_depends_on_content():
    field = RGBImageField("proportion", compress_probability=0.5)
    modes = [int(encode(field, make_picture(8, 8, seed=seed))[0]["mode"]) for seed in range(200)]
    assert modes == [int(encode(field, make_picture(8, 8, seed=seed))[0]["mode"]) for seed in range(200)]
    assert 70 < sum(modes) < 130


def test_a_jpeg_that_only_lenient_decoders_take_is_encoded_anew():
    ordinary = encode_jpeg(make_picture(40, 56, seed=3))
    # Zeros before the end-of-image marker: Pillow and OpenCV do not mind, strict libjpeg-turbo does.
    stray = ordinary[:-2] + bytes(20) + ordinary[-2:]
    record, stored = encode(RGBImageField("jpg"), stray)
    assert stored != stray and (record["width"], record["height"]) == (56, 40)
    difference = decode_jpeg(stored).astype(int) - decode_jpeg(ordinary)
    assert np.abs(difference).mean() < 4
