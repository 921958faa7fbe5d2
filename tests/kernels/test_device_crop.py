"""What a device does with crop requests: its twin against OpenCV and torch, its kernel against the twin."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ffx.kernels.crop_parts import copy_part, part_of, place_parts
from ffx.kernels.crop_request import (
    CROP_HEIGHT,
    CROP_WIDTH,
    FLIP,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    LEFT,
    OFFSET,
    PLACE,
    REQUEST_WORDS,
    TOP,
    stored_bytes,
)
from ffx.kernels.crop_twin import crop_requested
from tests.kernels.crop_batches import MODES, batch_of, plane_pixels
from tests.kernels.triton_peer import table

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["raw area few 17 33", "yuv420 area few 17 9", "raw antialias few 17 9", "yuv420 bilinear few 5 7"]
THOROUGH = [
    f"{mode} {interpolation} {cases}"
    for mode in MODES
    for interpolation in ("area", "antialias", "bilinear")
    for cases in ("few 17 33", "many 17 9")
]


def by_twin(batch) -> np.ndarray:
    images = np.full((len(batch.requests), *batch.target, 3), 0xA5, np.uint8)
    crop_requested(batch.requests, batch.data, images)
    return images


def resized(pixels: np.ndarray, interpolation: str, target: tuple[int, int]) -> np.ndarray:
    """By OpenCV or torch, not rounded."""
    if interpolation == "area":
        return cv2.resize(pixels, target[::-1], interpolation=cv2.INTER_AREA)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    result = torch.nn.functional.interpolate(
        tensor, target, mode="bilinear", align_corners=False, antialias=interpolation == "antialias"
    )
    return result[0].permute(1, 2, 0).numpy()


def expected_pixels(batch, position: int, combination: str) -> np.ndarray:
    request, (mode, interpolation, *_) = batch.requests[position], combination.split()
    height, width = request[IMAGE_HEIGHT], request[IMAGE_WIDTH]
    stored = batch.images[position]
    pixels = stored.reshape(height, width, 3) if mode == "raw" else plane_pixels(stored, height, width)
    rows = slice(request[TOP], request[TOP] + request[CROP_HEIGHT])
    columns = slice(request[LEFT], request[LEFT] + request[CROP_WIDTH])
    made = resized(np.ascontiguousarray(pixels[rows, columns], dtype=np.float64), interpolation, batch.target)
    if mode != "raw":
        luma, blue, red = made[..., 0], made[..., 1] - 128, made[..., 2] - 128
        made = np.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], 2)
    return made[:, ::-1] if request[FLIP] else made


@pytest.mark.parametrize("combination", THOROUGH)
def test_twin_is_within_half_a_grey_level_of_exact_results(combination):
    batch = batch_of(combination)
    found = by_twin(batch)
    for position, image in enumerate(found):
        expected = expected_pixels(batch, position, combination).clip(0, 255)
        assert np.abs(image - expected).max() < 0.52
    assert found.std() > 20


@pytest.mark.parametrize("mode", MODES)
def test_parts_hold_what_the_requests_need_and_no_more(mode):
    batch = batch_of(f"{mode} area few 17 33")
    size = place_parts(batch.requests)
    buffer = np.full(size + 64, 0xA5, np.uint8)
    for position, request in enumerate(batch.requests):
        copy_part(request, position, batch.data.ctypes.data + request[OFFSET], buffer.ctypes.data)
    assert (buffer[size:] == 0xA5).all()
    sent = buffer[: len(batch.requests) * 8 * REQUEST_WORDS].view(np.int64).reshape(-1, REQUEST_WORDS)
    images = np.empty((len(sent), *batch.target, 3), np.uint8)
    crop_requested(sent, buffer, images)
    np.testing.assert_array_equal(images, by_twin(batch))
    for request, whole in zip(sent, batch.requests):
        top, left, height, width = part_of(whole)
        assert (request[IMAGE_HEIGHT], request[IMAGE_WIDTH]) == (height, width)
        assert height <= whole[CROP_HEIGHT] + 2 and width <= whole[CROP_WIDTH] + 2
        if mode == "raw":
            assert (top, left, height, width) == tuple(whole[[TOP, LEFT, CROP_HEIGHT, CROP_WIDTH]])
    bounds = np.r_[sent[:, OFFSET], size]
    sizes = [stored_bytes(MODES[mode], request[IMAGE_HEIGHT], request[IMAGE_WIDTH]) for request in sent]
    assert (np.diff(bounds) >= sizes).all() and (np.diff(bounds) < np.array(sizes) + 32).all()
    assert (sent[:, OFFSET] % 32 == 0).all() and (sent[:, OFFSET] == sent[:, PLACE]).all()


def by_interpreter(folder: Path, combinations: list[str]):
    """The kernel's results in Triton's interpreter, in a process of its own."""
    pytest.importorskip("triton")
    results = folder / "results.npz"
    subprocess.run(
        [sys.executable, ROOT / "tests/kernels/triton_peer.py", results, *combinations],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        check=True,
    )
    return np.load(results)


def check_against_twin(found: np.ndarray, combination: str) -> None:
    expected = by_twin(batch_of(combination))
    difference = np.abs(found[: len(expected)].astype(int) - expected)
    assert difference.max() <= 1, combination
    # They round alike but for ties: the kernel sums in float32.
    assert difference.mean() < 0.01, combination
    assert (found[len(expected) :] == 0xA5).all(), combination


def test_kernel_equals_the_twin_in_tritons_interpreter(tmp_path):
    results = by_interpreter(tmp_path, QUICK)
    for combination in QUICK:
        check_against_twin(results[combination], combination)
    # What is normalised is the same grey levels, looked up.
    levels = torch.from_numpy(results[QUICK[0]][:2]).long()
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        expected = torch.stack([table(dtype)[levels[..., channel], channel] for channel in range(3)], 3)
        bits = torch.int16 if dtype.itemsize == 2 else torch.int32
        found = torch.from_numpy(results[str(dtype)]).view(bits)
        assert torch.equal(found, expected.view(bits)), dtype


@pytest.mark.slow
def test_kernel_equals_the_twin_for_every_rule_in_tritons_interpreter(tmp_path):
    results = by_interpreter(tmp_path, THOROUGH)
    for combination in THOROUGH:
        check_against_twin(results[combination], combination)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("normalise", "result"), [(False, "*u8"), (True, "*fp16"), (True, "*bf16"), (True, "*fp32")])
def test_kernel_compiles_for_gpus(capability, normalise, result):
    compiler = pytest.importorskip("triton.compiler")
    from triton.backends.compiler import GPUTarget

    from ffx.kernels.crop_triton import TILE_COLUMNS, TILE_ROWS, crop_tiles

    signature = {"requests": "*i64", "data": "*u8", "table": result, "target": result, "height": "i32", "width": "i32"}
    constants = {"normalise": normalise, "tile_rows": TILE_ROWS, "tile_columns": TILE_COLUMNS}
    source = compiler.ASTSource(crop_tiles, signature | dict.fromkeys(constants, "constexpr"), constants)
    code = compiler.compile(source, target=GPUTarget("cuda", capability, 32)).asm
    assert len(code["cubin"]) > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("combination", [*THOROUGH, "raw area many 224 224", "yuv420 antialias few 160 161"])
def test_kernel_equals_the_twin_on_a_gpu(combination):
    from ffx.kernels.crop_triton import launch

    batch = batch_of(combination)
    images = torch.full((len(batch.requests) + 1, *batch.target, 3), 0xA5, dtype=torch.uint8, device="cuda")
    requests, data = torch.from_numpy(batch.requests).cuda(), torch.from_numpy(batch.data).cuda()
    launch(requests, data, images[:-1])
    check_against_twin(images.cpu().numpy(), combination)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        floats = torch.empty(images[:-1].shape, dtype=dtype, device="cuda")
        launch(requests, data, floats, table(dtype).cuda())
        levels = images[:-1].long()
        expected = torch.stack([table(dtype).cuda()[levels[..., channel], channel] for channel in range(3)], 3)
        assert torch.equal(floats, expected), dtype
