"""Real servers and other people's file systems: nginx, an S3 server, fsspec's."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ffx import RemoteOptions
from ffx.errors import LoaderError, RemoteError
from ffx.loader import OrderOption
from ffx.remote import list_files
from ffx.remote.opening import open_store
from tests.loader.helpers import everything, load, random_pipelines
from tests.remote.nginx import NGINX, nginx_server
from tests.remote.s3 import s3_server


def assert_is_the_local_epoch(address, options, pages_file):
    arguments = {"order": OrderOption.QUASI_RANDOM, "pipelines": random_pipelines()}
    with load(address, remote=options, **arguments) as remote, load(pages_file, **arguments) as local:
        for one, other in zip(everything(remote), everything(local), strict=True):
            np.testing.assert_array_equal(one, other)
        fetched = remote.reader.remote.fetched.bytes
        everything(remote)
        assert remote.reader.remote.fetched.bytes == fetched > 0


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_nginx(options, pages_file):
    with nginx_server(pages_file.parent) as address:
        assert_is_the_local_epoch(f"{address}/{pages_file.name}", options, pages_file)


@pytest.fixture(scope="module")
def s3(pages_file):
    """An S3 server's client, and its address."""
    pytest.importorskip("moto.server")
    with s3_server({("pictures", "sets/train.beton"): pages_file.read_bytes()}) as running:
        yield running


def s3_options(endpoint, tmp_path, **arguments) -> RemoteOptions:
    storage = {"endpoint_url": endpoint, "region_name": "us-east-1", "key": "anybody", "secret": "nothing"}
    return RemoteOptions(
        cache_dir=tmp_path / "cache", attempts=3, timeout_seconds=10, storage_options=storage, **arguments
    )


def test_an_s3_server(s3, tmp_path, pages_file):
    assert_is_the_local_epoch("s3://pictures/sets/train.beton", s3_options(s3[1], tmp_path), pages_file)


def test_an_object_changed_in_mid_epoch(s3, tmp_path, pages_file):
    client, endpoint = s3
    data = bytearray(pages_file.read_bytes())
    client.put_object(Bucket="pictures", Key="changing.beton", Body=bytes(data))
    options = s3_options(endpoint, tmp_path, read_ahead_bytes=0, requests=1)
    arguments = {"batch_size": 4, "batches_ahead": 1, "pipelines": random_pipelines()}
    with load("s3://pictures/changing.beton", remote=options, **arguments) as loader:
        batches = iter(loader)
        next(batches)
        data[len(data) // 2] ^= 1
        client.put_object(Bucket="pictures", Key="changing.beton", Body=bytes(data))
        with pytest.raises(LoaderError, match="changed while it was read"):
            list(batches)


@pytest.mark.parametrize("address", ["s3://pictures/no.beton", "s3://nobodys/no.beton", "s3://pictures"])
def test_objects_that_are_not_there(s3, tmp_path, address):
    with pytest.raises(RemoteError, match=address):
        load(address, remote=s3_options(s3[1], tmp_path))


def test_s3_keys_with_a_number_sign_and_versions(s3, tmp_path):
    client, endpoint = s3
    options = s3_options(endpoint, tmp_path)
    client.create_bucket(Bucket="versions")
    client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    client.put_object(Bucket="versions", Key="run", Body=b"another object")
    old = client.put_object(Bucket="versions", Key="run#2/a@b", Body=b"old")["VersionId"]
    client.put_object(Bucket="versions", Key="run#2/a@b", Body=b"newer")
    (address,) = list_files("s3://versions/run#2/", options)
    assert address == "s3://versions/run#2/a@b"
    for one, expected in ((address, b"newer"), (f"{address}?versionId={old}", b"old")):
        store = open_store(one, options)
        assert store.shown == address
        assert b"".join(store.stream(0, len(expected), store.version())) == expected
    with pytest.raises(RemoteError, match="found one version"):
        list_files(f"{address}?versionId={old}", options)


@pytest.mark.parametrize("query", ["", "versionId", "versionId=", "X-Amz-Signature=SECRET"])
def test_s3_addresses_with_another_query_are_refused(options, query):
    pytest.importorskip("botocore")
    with pytest.raises(RemoteError, match=r"s3://bucket/key: .*: its form: expected .*\?versionId=number") as raised:
        open_store(f"s3://bucket/key?{query}", options)
    assert "SECRET" not in str(raised.value)


def test_files_are_listed_by_how_they_begin(s3, tmp_path):
    options = s3_options(s3[1], tmp_path)
    s3[0].put_object(Bucket="pictures", Key="sets/train.beton/below", Body=b"no file of this folder")
    s3[0].put_object(Bucket="pictures", Key="sets/val.beton", Body=b"another one")
    assert list_files("s3://pictures/sets/train", options) == ["s3://pictures/sets/train.beton"]
    assert list_files("s3://pictures/sets/", options) == [
        f"s3://pictures/sets/{name}.beton" for name in ("train", "val")
    ]
    assert list_files("s3://pictures/other", options) == []


def test_more_files_than_one_answer_lists(s3, tmp_path, monkeypatch):
    client, endpoint = s3
    client.create_bucket(Bucket="many")
    names = [f"part-{number:04d}" for number in range(1003)]
    for name in names:
        client.put_object(Bucket="many", Key=name, Body=b"")
    assert list_files("s3://many/", s3_options(endpoint, tmp_path)) == [f"s3://many/{name}" for name in names]
    monkeypatch.setattr("ffx.remote.s3_store._MOST_LISTS", 1)
    with pytest.raises(RemoteError, match="more than 1000 objects begin so: give more of the name"):
        list_files("s3://many/", s3_options(endpoint, tmp_path))


@pytest.mark.parametrize("address", ["s3://nobodys/train", "s3://", "s3://Not A Name/x"])
def test_buckets_that_are_not_there_cannot_be_listed(s3, tmp_path, address):
    with pytest.raises(RemoteError, match=f"{address}: cannot be read: "):
        list_files(address, s3_options(s3[1], tmp_path))


def test_what_no_store_lists_is_said(options):
    with pytest.raises(RemoteError, match="cannot be listed"):
        list_files("http://127.0.0.1:9/sets/", options)


def test_an_s3_server_that_is_not_there(tmp_path):
    pytest.importorskip("botocore")
    with pytest.raises(RemoteError, match="gave up after 3 tries"):
        load("s3://pictures/train.beton", remote=s3_options("http://127.0.0.1:9", tmp_path))


def test_whatever_fsspec_knows(options, pages_file):
    fsspec = pytest.importorskip("fsspec")
    fsspec.filesystem("memory").pipe_file("/train.beton", pages_file.read_bytes())
    assert_is_the_local_epoch("memory://train.beton", options, pages_file)


def test_a_file_system_of_fsspecs_that_changes_its_file(options, pages_file, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.pipe_file("/changing.beton", pages_file.read_bytes())
    monkeypatch.setattr("ffx.remote.fsspec_store._SECONDS_BETWEEN_LOOKS", 0.0)
    with load("memory://changing.beton", batch_size=4, pipelines=random_pipelines(), remote=options) as loader:
        time.sleep(0.01)
        files.pipe_file("/changing.beton", pages_file.read_bytes())
        with pytest.raises(LoaderError, match="changed while it was read"):
            list(loader)


def test_addresses_that_nothing_reads_say_what_to_install(options):
    with pytest.raises(RemoteError, match=r"nosuch://x/y.*"):
        load("nosuch://x/y", remote=options)


def test_a_missing_package_is_named(options, monkeypatch):
    monkeypatch.setitem(sys.modules, "urllib3", None)
    monkeypatch.delitem(sys.modules, "ffx.remote.http_store", raising=False)
    with pytest.raises(RemoteError, match="pip install botocore fsspec urllib3"):
        load("https://127.0.0.1/x", remote=options)


def test_paths_are_no_addresses(tmp_path):
    from ffx.remote import is_remote

    assert not any(map(is_remote, ["a.beton", "/a/b://c", Path("a"), "C:\\a", "./s3:/x"]))
    assert all(map(is_remote, ["s3://a/b", "HTTPS://a/b", "simplecache::s3://a/b", "osdf:///a"]))


def test_texts_about_an_address_lose_its_secrets():
    from ffx.remote.address import redacted, without_secrets

    address = "sftp://me:pass:word@host/a/b.beton?key=k1#part"
    assert redacted(address) == "sftp://host/a/b.beton"
    text = f"{address}; me:pass:word@host; pass:word; /a/b.beton?key=k1#part"
    assert without_secrets(text, address) == "sftp://host/a/b.beton; …@host; …; /a/b.beton?…"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("zip://train.ffcv::https://user:SECRET@host/x.zip?s=SECRET", "zip://train.ffcv::https://host/x.zip"),
        ("simplecache::zip://a/b::sftp://SECRET@host/x.zip#SECRET", "simplecache::zip://a/b::sftp://host/x.zip"),
        ("https://user:SEC/RET@host/x.zip", "https://host/x.zip"),
        ("https://user:SEC@/RET@host/x.zip", "https://host/x.zip"),
        ("https://user:SEC::RET@[2001::db8]:80/x", "https://[2001::db8]:80/x"),
        ("https://host/at@home/x?s=SECRET", "https://host/at@home/x"),
        ("s3://bucket/at@home/x", "s3://bucket/at@home/x"),
        ("https://@host/x", "https://host/x"),
        ("s3://", "s3://"),
    ],
)
def test_secrets_are_left_out_wherever_they_are(address, shown):
    from ffx.remote.address import redacted, without_secrets

    assert redacted(address) == shown
    text = without_secrets(f"no {address}; {' '.join(address.split('/'))}; {address.partition('::')[2]}", address)
    assert shown in text
    assert "SECRET" not in text


@pytest.mark.parametrize("text", ["SEC/RET", "user:SEC/RET", "user:SEC/RET@host", "https://user:SEC/RET@host/x"])
def test_a_password_with_a_slash_is_left_out_alone_too(text):
    from ffx.remote.address import without_secrets

    assert "SEC/RET" not in without_secrets(text, "https://user:SEC/RET@host/x")
