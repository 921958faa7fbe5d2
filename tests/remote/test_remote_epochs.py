"""A remote file gives what the local one gives, and is fetched once, as far as it is needed."""

import dataclasses
import gc
import itertools
from pathlib import Path

import numpy as np
import pytest

from ffx.errors import LoaderError, RemoteError
from ffx.loader import OrderOption
from ffx.reader import Reader
from ffx.remote.block_map import ABSENT
from ffx.remote.cache import DATA, MAP, OPENING, Cache
from ffx.remote.lease import Lease
from ffx.remote.locking import held, held_if_free
from tests.loader.helpers import everything, load, random_pipelines

ORDERS = [OrderOption.SEQUENTIAL, OrderOption.RANDOM, OrderOption.QUASI_RANDOM]


def epochs(path, count=2, **arguments):
    with load(path, pipelines=random_pipelines(), **arguments) as loader:
        return [everything(loader) for _ in range(count)]


def remote_loader(server, options, **arguments):
    arguments = {"order": OrderOption.RANDOM, "pipelines": random_pipelines(), **arguments}
    return load(server.url("train.beton"), remote=options, **arguments)


@pytest.mark.parametrize("order", ORDERS)
def test_remote_epochs_are_the_local_ones(server, options, pages_file, order):
    remote = epochs(server.url("train.beton"), order=order, remote=options)
    local = epochs(pages_file, order=order)
    for mine, theirs in zip(remote, local, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_second_epoch_and_a_second_loader_fetch_nothing(server, options, pages_file):
    with remote_loader(server, options) as loader:
        everything(loader)
        fetched = loader.reader.remote.fetched
        first = fetched.bytes
        everything(loader)
        assert fetched.bytes == first == server.bytes_asked <= pages_file.stat().st_size + (1 << 20)
    with remote_loader(server, options) as again:
        everything(again)
        assert again.reader.remote.fetched.bytes == 0
    assert server.bytes_asked == first
    ranges = sorted(server.ranges)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(ranges)), "something was fetched twice"


def test_a_partial_epoch_fetches_the_blocks_of_its_samples_only(server, options, pages_file):
    chosen = [3, 4, 77]
    index = Reader(pages_file).index
    tables = index.data_start + index.file_bytes - index.data_end
    with remote_loader(server, options, indices=chosen, batch_size=2) as loader:
        everything(loader)
        blocks = loader.reader.remote.blocks
        needed = int(blocks.sizes[blocks.of_samples(np.array(chosen))].sum())
        assert needed < 4 << 20
        # Head and tables come in parts of a MiB.
        assert loader.reader.remote.fetched.bytes <= needed + tables + (2 << 20)


def test_an_epoch_goes_on_from_a_local_loaders_state(server, options, pages_file):
    with load(pages_file, order=OrderOption.RANDOM, pipelines=random_pipelines()) as local:
        rest = iter(local)
        next(rest)
        state = local.state_dict()
        expected = everything(rest)
    with remote_loader(server, options) as remote:
        remote.load_state_dict(state)
        for one, other in zip(everything(remote), expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_two_loaders_share_the_cache(server, options, pages_file):
    with remote_loader(server, options) as one, remote_loader(server, options) as other:
        for mine, theirs in zip(one, other, strict=True):
            np.testing.assert_array_equal(mine[0], theirs[0])
    assert server.bytes_asked <= pages_file.stat().st_size + (2 << 20)


def test_a_cache_that_is_smaller_than_the_file_keeps_its_limit(server, options, pages_file):
    limit = 9 << 20
    small = dataclasses.replace(options, cache_bytes=limit)
    pipelines = {"image": random_pipelines()["image"], "label": None}
    arguments = {"order": OrderOption.QUASI_RANDOM, "order_kwargs": {"open_pages": 2}, "batches_ahead": 1}
    with remote_loader(server, small, batch_size=4, **{**arguments, "pipelines": pipelines}) as loader:
        found = [everything(loader)[0] for _ in range(2)]
        copy = loader.reader.remote
        assert copy.block_map.present_bytes <= limit
        assert copy.path.stat().st_blocks * 512 <= limit + (1 << 20)
        assert copy.path.stat().st_size == pages_file.stat().st_size
        assert copy.fetched.bytes > pages_file.stat().st_size
    with load(pages_file, batch_size=4, **{**arguments, "pipelines": pipelines}) as local:
        for mine in found:
            np.testing.assert_array_equal(mine, everything(local)[0])


def test_a_cache_too_small_for_the_batches_under_way_is_an_error(server, options):
    tiny = dataclasses.replace(options, cache_bytes=3 << 20)
    with remote_loader(server, tiny) as loader, pytest.raises(LoaderError, match="cache_bytes of at least"):
        iter(loader)


def test_other_files_go_first_and_vanish_when_nobody_reads_them(server, options, pages_file, tmp_path):
    server.files["old.beton"] = pages_file.read_bytes()
    with load(server.url("old.beton"), pipelines=random_pipelines(), remote=options) as loader:
        everything(loader)
        old, kept = loader.reader.remote.path.parent, loader.reader.remote.block_map.present_bytes
    del loader
    gc.collect()
    with remote_loader(server, dataclasses.replace(options, cache_bytes=kept + 1000)) as loader:
        everything(loader)
    assert not old.exists()
    assert loader.reader.remote.path.exists()


def test_a_copy_is_removed_with_its_lock_held_and_the_locks_file_last(server, options, monkeypatch):
    with remote_loader(server, options) as loader:
        remote = loader.reader.remote
    folder, cache, block_map = remote.path.parent, remote.cache, remote.block_map
    block_map.blocks["state"][:] = ABSENT
    with cache.lock():
        assert cache._remove_if_empty(remote.name, block_map) == 0, "it is still looked at"
    del loader, remote
    gc.collect()
    with cache.lock(), held(folder / OPENING):
        assert cache._remove_if_empty(folder.name, block_map) == 0, "it is being opened"
    removed, unlink = [], Path.unlink

    def watched(path, **arguments):
        with held_if_free(folder / OPENING) as free:
            removed.append((path.name, free))
        unlink(path, **arguments)

    monkeypatch.setattr(Path, "unlink", watched)
    with cache.lock():
        assert cache._remove_if_empty(folder.name, block_map) == block_map.table_bytes
    assert not folder.exists()
    assert [free for _, free in removed] == [False] * len(removed)
    assert {name for name, _ in removed[:-1]} >= {DATA, MAP, "about.json"}
    assert removed[-1][0] == OPENING


@pytest.mark.parametrize("damage", ["missing", "bad"])
def test_folders_without_a_usable_map_count_and_are_given_up(tmp_path, damage):
    cache = Cache(tmp_path, 4 << 20)
    folder, other = tmp_path / f"train.beton-{'0f' * 10}", tmp_path / "pictures"
    for one in (folder, other):
        one.mkdir()
        (one / OPENING).touch()
        (one / DATA).write_bytes(bytes(3 << 20))
        if damage == "bad":
            (one / MAP).write_bytes(b"no map" * 100)

    def kept_after(bytes_wanted):
        with cache.lock():
            cache.make_room(bytes_wanted)
        assert other.exists(), "it is not the cache's"
        return folder.exists()

    assert kept_after(1 << 19), "there is room"
    with held(folder / OPENING):
        assert kept_after(2 << 20), "it is being opened"
    lease = Lease(folder, 7)
    assert kept_after(2 << 20), "it is read"
    lease.close()
    assert not kept_after(2 << 20)


@pytest.mark.parametrize("damage", ["present", "lost"])
def test_after_a_restart_only_what_is_on_the_disk_counts(server, options, damage):
    with remote_loader(server, options) as loader:
        everything(loader)
        remote = loader.reader.remote
    if damage == "lost":
        remote.block_map._header["boot"] ^= 1
    with remote_loader(server, options) as again:
        everything(again)
        assert (again.reader.remote.fetched.bytes > 0) == (damage == "lost")


def test_secrets_of_an_address_are_never_shown(server, options, tmp_path, caplog):
    address = server.url("train.beton").replace("http://", "http://user:password@") + "?signature=f00dcafe"
    with load(address, pipelines=random_pipelines(), remote=options) as loader:
        everything(loader)
        sent = {name.lower(): text for name, text in server.headers[-1].items()}
        assert sent["authorization"].startswith("Basic ")
        shown = f"{loader.fname} {loader.reader!r} {loader.reader.index.path} {options!r}"
    with pytest.raises(RemoteError) as raised:
        load(address.replace("train", "missing"), remote=options)
    shown += str(raised.value) + caplog.text + "".join(str(path) for path in tmp_path.rglob("*"))
    shown += "".join(path.read_text() for path in tmp_path.rglob("about.json"))
    assert "password" not in shown
    assert "f00dcafe" not in shown


def test_options_for_a_local_file_are_refused(pages_file, options):
    with pytest.raises(LoaderError, match="found a local path"):
        load(pages_file, remote=options)
