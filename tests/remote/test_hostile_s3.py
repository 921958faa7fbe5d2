"""An S3 server that fails, lies and changes what it has: bounded tries, an error that says so, nothing bad is kept."""

import dataclasses
import time

import numpy as np
import pytest

from ffx.errors import LoaderError, RemoteError
from ffx.loader import OrderOption
from tests.loader.helpers import everything, load, random_pipelines
from tests.remote.server import PASSING, Fault, HostileServer, is_data

pytest.importorskip("botocore")

ADDRESS = "s3://pictures/sets/train.beton"
KEY = "pictures/sets/train.beton"


@pytest.fixture
def server(pages_file):
    with HostileServer({KEY: pages_file.read_bytes()}, {KEY: '"v1"'}) as running:
        yield running


@pytest.fixture
def options(options, server):
    storage = {"endpoint_url": server.url("").rstrip("/"), "region_name": "us-east-1", "key": "me", "secret": "sesame"}
    return dataclasses.replace(options, storage_options=storage)


def remote_loader(options, **arguments):
    arguments = {"order": OrderOption.RANDOM, "pipelines": random_pipelines(), **arguments}
    return load(ADDRESS, remote=options, **arguments)


def assert_is_the_local_epoch(loader, pages_file):
    with load(pages_file, order=OrderOption.RANDOM, pipelines=random_pipelines()) as local:
        for one, other in zip(everything(loader), everything(local), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.kind)
def test_what_passes_is_outlasted(server, options, pages_file, fault):
    server.faults.append(dataclasses.replace(fault, wanted=is_data))
    with remote_loader(options) as loader:
        assert_is_the_local_epoch(loader, pages_file)


LASTING = [
    (Fault("status", 503), "status 503"),
    (Fault("status", 403), "status 403.*are the credentials right"),
    (Fault("status", 404), "status 404.*is there such a bucket and key"),
    (Fault("whole"), "gave up after 2 tries"),
    (Fault("stall", 5), "gave up after 2 tries"),
    (Fault("reset"), "gave up after 2 tries"),
    (Fault("truncate"), "gave up after 2 tries"),
    (Fault("drip"), "gave up after 2 tries"),
    (Fault("other range"), "expected bytes|Content-Range"),
    (Fault("html"), "gave up after 2 tries"),
    (Fault("redirect", "file:///etc/passwd"), "status 302"),
    (Fault("redirect", "http://127.0.0.1:9/other"), "status 302"),
]


@pytest.mark.parametrize("fault, text", LASTING, ids=lambda value: getattr(value, "kind", ""))
def test_what_lasts_is_an_error_in_bounded_time(server, options, fault, text):
    impatient = dataclasses.replace(options, attempts=2, timeout_seconds=0.5)
    with remote_loader(impatient) as loader:
        server.faults.append(dataclasses.replace(fault, wanted=is_data))
        began = time.monotonic()
        with pytest.raises(LoaderError, match=text) as raised:
            everything(loader)
        assert time.monotonic() - began < 30
        assert ADDRESS in str(raised.value)
        assert "sesame" not in str(raised.value)
        assert isinstance(raised.value.__cause__, RemoteError)
        assert not loader.reader.remote.block_map.present.any()


OPENING = [
    (Fault("status", 503), "gave up after 2 tries.*status 503"),
    (Fault("status", 403), "status 403"),
    (Fault("redirect", "file:///etc/passwd"), "it is redirected"),
    (Fault("html"), "gives no ETag"),
]


@pytest.mark.parametrize("fault, text", OPENING, ids=lambda value: getattr(value, "kind", ""))
def test_opening_fails_in_bounded_time(server, options, fault, text):
    server.faults.append(fault)
    began = time.monotonic()
    with pytest.raises(RemoteError, match=f"{ADDRESS}.*{text}"):
        remote_loader(dataclasses.replace(options, attempts=2, timeout_seconds=0.5))
    assert time.monotonic() - began < 30


def test_an_object_changed_in_mid_epoch_is_an_error_and_never_mixed(server, options, pages_file):
    little = dataclasses.replace(options, read_ahead_bytes=0, requests=1)
    with remote_loader(little, order=OrderOption.SEQUENTIAL, batch_size=4, batches_ahead=1) as loader:
        batches = iter(loader)
        next(batches)
        server.etags[KEY] = '"v2"'
        with pytest.raises(LoaderError, match='etag "v1", found "v2": it was changed while it was read'):
            list(batches)
    with remote_loader(options) as new:
        assert_is_the_local_epoch(new, pages_file)


def test_a_server_that_ignores_the_version_that_was_asked_for(server, options):
    """It gives other bytes under another ETag, with status 206."""
    little = dataclasses.replace(options, read_ahead_bytes=0, requests=1)
    server.honest = False
    with remote_loader(little, order=OrderOption.SEQUENTIAL, batch_size=4, batches_ahead=1) as loader:
        batches = iter(loader)
        next(batches)
        server.etags[KEY] = '"v2"'
        with pytest.raises(LoaderError, match="changed while it was read"):
            list(batches)
