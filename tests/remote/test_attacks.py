"""Whoever has a server, an address or an account on the machine: what they must not reach."""

import dataclasses
import os
import sys

import pytest

from ffx import RemoteOptions
from ffx.errors import RemoteError
from ffx.reader import Reader
from ffx.remote.address import cache_name
from ffx.remote.http_store import HttpStore
from ffx.remote.lease import Lease
from ffx.remote.opening import open_store
from tests.remote.server import Fault, HostileServer


def test_a_cache_that_everybody_can_write_to_is_refused(server, options):
    options.folder.mkdir()
    options.folder.chmod(0o1777)
    with pytest.raises(RemoteError, match="that not everybody can write to"):
        Reader(server.url("train.beton"), remote=options)


def test_a_new_cache_is_its_owners(server, options):
    Reader(server.url("train.beton"), remote=options)
    assert options.folder.stat().st_mode & 0o077 == 0


def test_a_cache_that_cannot_be_written_to_is_said(server, options, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(RemoteError, match="cannot be written to: choose another cache_dir"):
        Reader(server.url("train.beton"), remote=options)


def test_a_link_in_the_copys_place_is_not_followed(server, options, tmp_path):
    copy = Reader(server.url("train.beton"), remote=options).remote.path
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    copy.unlink()
    copy.symlink_to(precious)
    with pytest.raises(RemoteError, match="cannot be made"):
        Reader(server.url("train.beton"), remote=options)
    assert precious.read_bytes() == b"precious"


@pytest.mark.parametrize(
    "address",
    [
        "https://h/../../etc/passwd",
        "s3://b/..",
        "s3://b/%2e%2e%2f%2e%2e",
        "https://h/a\\..\\b",
        "s3://b/x\0y",
        "s3://b/\n",
    ],
)
def test_addresses_lead_nowhere_else_in_the_cache(address):
    name = cache_name(address, 1, "e", "m")
    assert name not in (".", "..")
    assert not set(name) & set("/\\\0\n%")
    assert not name.startswith(".")


def test_headers_of_the_user_are_not_sent_to_another_host(server, options):
    with HostileServer(server.files, server.etags) as other:
        server.faults.append(Fault("redirect", other.url("train.beton")))
        secret = {"X-Token": "sesame", "Authorization": "Bearer sesame"}
        chosen = dataclasses.replace(options, storage_options={"headers": secret})
        HttpStore(server.url("train.beton"), chosen).version()
        assert any("sesame" in text for text in server.headers[0].values())
        assert other.headers
        assert not any("sesame" in text for sent in other.headers for text in sent.values())


@pytest.mark.parametrize("size", [1 << 63, 10**30, 1 << 62])
def test_lengths_that_no_file_has_are_refused(server, options, size):
    server.length = size
    with pytest.raises(RemoteError, match=r"below 2\^63|cannot be made|cannot be read"):
        Reader(server.url("train.beton"), remote=dataclasses.replace(options, attempts=1))


def test_a_lease_has_its_room_on_the_disk(tmp_path, monkeypatch):
    lease = Lease(tmp_path, 100_000)
    assert lease.path.stat().st_blocks * 512 >= 100_000
    lease.close()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RemoteError, match="No space left on device: choose another cache_dir"):
        Lease(tmp_path, 10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scheme", ["osdf", "pelican"])
def test_the_package_for_the_open_science_data_federation_is_named(scheme, monkeypatch):
    # Of that name the package also has a mapping.
    pytest.importorskip("fsspec.registry")
    registry = sys.modules["fsspec.registry"]
    for name in ("osdf", "pelican"):
        monkeypatch.delitem(registry._registry, name, raising=False)
        monkeypatch.delitem(registry.known_implementations, name, raising=False)
    with pytest.raises(RemoteError, match=r"the package pelicanfs, which reads .*: pip install pelicanfs"):
        open_store(f"{scheme}://host/set/train.beton", RemoteOptions())
