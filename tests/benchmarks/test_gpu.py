"""The benchmarks of a GPU, as far as the CPU can show them: what is read off a trace, and epochs on the CPU twin."""

import argparse
import random

import pytest
import torch

from benchmarks import device_crop, trace
from benchmarks.device_crop import SKIPPED, WAYS, epoch, open_loader
from benchmarks.trace import covered, summarise_trace
from tests.loader.conftest import write
from tests.pictures import PictureDataset


def gpu_event(kind, name, start, length, stream):
    return {"cat": kind, "name": name, "ts": start, "dur": length, "args": {"stream": stream}}


def test_covered_time_is_that_of_single_microseconds():
    generator = random.Random(3)
    for _ in range(20):
        intervals, cover = (
            [(start, start + generator.randrange(1, 9)) for start in generator.sample(range(60), 6)] for _ in range(2)
        )
        points = [{place for start, stop in some for place in range(start, stop)} for some in (intervals, cover)]
        assert covered(intervals, cover) == len(points[0] & points[1])


def test_copies_under_kernels_of_other_streams_overlap():
    events = [
        gpu_event("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", 0, 100, 20),
        gpu_event("gpu_memcpy", "Memcpy DtoD (Device -> Device)", 0, 100, 7),
        gpu_event("kernel", "crop_tiles", 0, 100, 20),  # on the copies' own stream: that is not overlap
        gpu_event("kernel", "convolution", 50, 20, 7),
        gpu_event("kernel", "convolution", 60, 80, 7),
        {"cat": "cuda_runtime", "name": "cudaStreamSynchronize", "ts": 1, "dur": 1},
        {"cat": "cuda_runtime", "name": "cudaMalloc", "ts": 1, "dur": 1},
        {"cat": "cpu_op", "name": "aten::mm", "ts": 1, "dur": 1},
    ]
    summary = summarise_trace(events)
    assert summary["copies"] == 1 and summary["copy_ms"] == pytest.approx(0.1)
    assert summary["overlap"] == pytest.approx(0.5)
    assert summary["waits"] == {"cudaStreamSynchronize": 1} and summary["allocations"] == {"cudaMalloc": 1}
    assert summary["from_pageable_memory"] == 0


def test_copies_from_pageable_memory_are_counted_and_none_is_no_overlap():
    events = [gpu_event("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)", 0, 100, 7)]
    assert summarise_trace(events)["from_pageable_memory"] == 1
    assert summarise_trace([])["overlap"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("benchmark", [trace, device_crop])
def test_without_a_gpu_it_says_so(benchmark, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    benchmark.add_options(parser)
    options = parser.parse_args(["--beton", "none.beton", "--out", str(tmp_path / "out")])
    assert benchmark.run(options) == SKIPPED and "no CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.long("measured files")
def test_every_way_gives_the_same_epoch(tmp_path, way):
    path = write(tmp_path / "raw.beton", PictureDataset(10), write_mode="raw")
    waited = []
    with open_loader(path, way, 16, 4, 1, "float16", samples=24, device="cpu") as loader:
        images, labels = next(iter(loader))
        assert images.shape == (4, 3, 16, 16) and images.dtype is torch.float16 and labels.shape == (4,)
        found = epoch(loader, lambda: waited.append(True))
    assert found["images"] == 24 and waited == [True]
    assert found["images_a_second"] == pytest.approx(20 / found["wall"])
