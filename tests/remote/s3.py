"""An S3 server of its own process on the loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["CREDENTIALS", "ENVIRONMENT", "free_port", "s3_server", "wait_for"]

CREDENTIALS = {"region_name": "us-east-1", "aws_access_key_id": "anybody", "aws_secret_access_key": "nothing"}
# The same for programs, beside AWS_ENDPOINT_URL.
ENVIRONMENT = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "anybody", "AWS_SECRET_ACCESS_KEY": "nothing"}


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(port: int) -> None:
    """Until somebody listens there."""
    latest = time.monotonic() + 60
    while time.monotonic() < latest:
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the server did not start")


@contextmanager
def s3_server(objects: dict[tuple[str, str], bytes]) -> Iterator[tuple[Any, str]]:
    """Run one that has some objects, by bucket and key; gives a client of it and its address."""
    import botocore.session

    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-p", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        client = botocore.session.Session().create_client("s3", endpoint_url=f"http://127.0.0.1:{port}", **CREDENTIALS)
        for bucket in {bucket for bucket, _ in objects}:
            client.create_bucket(Bucket=bucket)
        for (bucket, key), data in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=data)
        yield client, f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
