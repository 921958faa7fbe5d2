"""A file behind an address beside the same file on the disk: first and second epoch, bytes and requests.

local      the file itself
nginx      from nginx on the loopback, by HTTP
s3         from an S3 server on the loopback (moto, written in Python: it is slower than any that people use)
delayed    from a server, also in Python, that waits `--delay-ms` before each answer, as one far away does

A round is two epochs of a new loader, from an address with an empty cache. The servers run on the cores that the loader
is not pinned to, where there are any. What comes from an address is held against its checksums, the file itself is not.
Images a second are the lower of wall-clock and processor time; the processor time of a server is its own.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ffx import RemoteOptions
from ffx.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffx.loader import Loader, OrderOption
from ffx.transforms import RandomHorizontalFlip, ToTensor
from tests.remote.nginx import NGINX, nginx_server
from tests.remote.s3 import CREDENTIALS, s3_server
from tests.remote.server import HostileServer

from .files import KINDS, Pictures, written_file
from .harness import (
    Contender,
    Round,
    Session,
    add_common_options,
    chosen_cores,
    images_a_second,
    interval_cells,
    left_out,
    measure,
    summarise,
    usable_cores,
)
from .peers import Task
from .rows import median_with_interval
from .worker import run_epoch

__all__ = ["SERVERS", "add_options", "open_run", "run"]

SERVERS = ("nginx", "s3", "delayed")
COLUMNS = ("file", "order", "from", "first epoch, images/s", "95 %", "second", "95 %", "of local", "requests", "MB")
FIGURES: dict[str, Callable[[Round], float]] = {
    "first_epoch": lambda round_: images_a_second(round_["first"]),
    "second_epoch": lambda round_: images_a_second(round_["second"]),
    "cpu_seconds_first": lambda round_: round_["first"]["cpu"],
    "cpu_seconds_second": lambda round_: round_["second"]["cpu"],
}
_ORDERS = {"random": OrderOption.RANDOM, "quasi_random": OrderOption.QUASI_RANDOM}


def open_run(
    task: dict[str, object], order: str, address: str, storage: dict[str, str], cache: str
) -> Callable[[], Round]:
    """A round: two epochs of `address` with an empty cache; what they took, and what was fetched."""
    wanted = Task(**task)  # type: ignore[arg-type]
    decoder = RandomResizedCropRGBImageDecoder((wanted.size, wanted.size))
    pipelines = {"image": [decoder, RandomHorizontalFlip(), ToTensor()], "label": [IntDecoder(), ToTensor()]}
    common: dict[str, Any] = {
        "batch_size": wanted.batch_size,
        "num_workers": wanted.workers,
        "order": _ORDERS[order],
        "seed": wanted.seed,
        "drop_last": False,
        "pipelines": pipelines,
    }

    def do_round() -> Round:
        with tempfile.TemporaryDirectory(prefix="cache-", dir=cache) as folder:
            options = RemoteOptions(cache_dir=folder, storage_options=storage) if address != wanted.path else None
            # What was fetched is checked before it counts as being there.
            with Loader(address, remote=options, verify="never", **common) as loader:
                found: Round = {"first": run_epoch(loader), "second": run_epoch(loader), "requests": 0, "bytes": 0}
                if loader.reader.remote is not None:
                    fetched = loader.reader.remote.fetched
                    found.update(requests=fetched.requests, bytes=fetched.bytes, retries=fetched.retries)
        return found

    return do_round


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks remote`."""
    add_common_options(parser, rounds=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["jpg500", "mix400"], metavar="KIND")
    parser.add_argument("--orders", nargs="+", choices=_ORDERS, default=list(_ORDERS), metavar="ORDER")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS), metavar="SERVER")
    parser.add_argument("--delay-ms", type=float, default=50.0, help="before each answer of `delayed`")
    parser.add_argument("--size", type=int, default=160, help="side of the images, in pixels")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=4, help="times that the pictures stand in the file")


@contextmanager
def _on_other_cores(cores: tuple[int, ...]) -> Iterator[None]:
    """What is started meanwhile runs on the cores that the loader does not use."""
    mine, others = usable_cores(), set(usable_cores()) - set(cores)
    if others:
        os.sched_setaffinity(0, others)
    try:
        yield
    finally:
        if others:
            os.sched_setaffinity(0, mine)


def _addresses(
    options: argparse.Namespace, path: Path, opened: ExitStack
) -> Iterator[tuple[str, str, dict[str, str], dict[str, str]]]:
    """Of each server that there is, running until `opened` closes: name, address, storage options, what rows say."""
    yield "local", str(path), {}, {}
    if "nginx" in options.servers:
        if NGINX is None:
            left_out("nginx", "it is not installed")
        else:
            yield "nginx", f"{opened.enter_context(nginx_server(path.parent))}/{path.name}", {}, {}
    if "s3" in options.servers:
        _, endpoint = opened.enter_context(s3_server({("benchmarks", path.name): path.read_bytes()}))
        storage = {
            "endpoint_url": endpoint,
            "region_name": CREDENTIALS["region_name"],
            "key": CREDENTIALS["aws_access_key_id"],
            "secret": CREDENTIALS["aws_secret_access_key"],
        }
        yield "s3", f"s3://benchmarks/{path.name}", storage, {}
    if "delayed" in options.servers:
        server = HostileServer({path.name: path.read_bytes()}, {path.name: '"v1"'})
        server.delay_seconds = options.delay_ms / 1000
        yield "delayed", opened.enter_context(server).url(path.name), {}, {"delay_ms": options.delay_ms}


def run(options: argparse.Namespace) -> int:
    """Measure every kind and order; print a Markdown table and append rows to `options.out`."""
    pictures, cores = Pictures(options.images, options.limit), chosen_cores(options, options.workers)
    session = Session("remote", options.out, COLUMNS, pictures=len(pictures), cores=list(cores))
    cache = str(options.cache.resolve())
    for kind in (KINDS[name] for name in options.kinds):
        path = written_file("ffx", kind, pictures, options.cache, repeats=options.repeats).resolve()
        samples = options.repeats * len(pictures)
        task = asdict(Task(str(path), options.size, samples, options.batch_size, options.workers))
        with ExitStack() as opened, _on_other_cores(cores):
            places = list(_addresses(options, path, opened))
            for order in options.orders:
                contenders = [
                    Contender(
                        name,
                        "benchmarks.remote:open_run",
                        {"task": task, "order": order, "address": address, "storage": storage, "cache": cache},
                        cores,
                        one_thread=options.workers == 1,
                    )
                    for name, address, storage, _ in places
                ]
                rounds = measure(contenders, options.warm_up, options.rounds)
                about = {"kind": kind.name, "order": order, "size": options.size, "samples": samples}
                about |= {"workers": options.workers, "file_bytes": path.stat().st_size}
                _say(session, rounds, about, {name: more for name, _, _, more in places})
    return 0


def _say(session: Session, rounds: dict[str, list[Round]], about: dict[str, Any], more: dict[str, Any]) -> None:
    for name, found in summarise(rounds, FIGURES, "local").items():
        pairs = list(zip(rounds[name], rounds["local"], strict=True))
        second = FIGURES["second_epoch"]
        found["second_ratio"] = median_with_interval([second(mine) / second(local) for mine, local in pairs])
        fetched = {what: max(one[what] for one in rounds[name]) for what in ("requests", "bytes")}
        cells = [about["kind"], about["order"], name, *interval_cells(found["first_epoch"])]
        cells += [*interval_cells(found["second_epoch"]), f"{found['ratio']['median']:.2f}"]
        cells[-1] += f", {found['second_ratio']['median']:.2f}"
        cells += [f"{fetched['requests']:,}", f"{fetched['bytes'] / 1e6:,.1f}"]
        session.line(cells, {**about, **more[name], "from": name, **fetched, **found})
