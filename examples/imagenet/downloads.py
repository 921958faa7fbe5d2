"""Files from HTTP servers, whole: tries with pauses, going on where one broke off, checksums.

For what is fetched once and kept. Files of ffx are read by ranges where they lie (`ffx.remote`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
from tqdm import tqdm
from trainer.errors import ConfigurationError, DataError

from ffx.remote import redacted

__all__ = ["Archive", "fetch", "md5_of"]

_CHUNK_BYTES = 1 << 20
_ATTEMPTS = 6
_TIMEOUT_SECONDS = 60
_LONGEST_WAIT_SECONDS = 60
_RANGE_WRONG = 416
# Of the client's side: trying again changes nothing. These two may pass.
_MAY_PASS = (408, 429)


@dataclass(frozen=True)
class Archive:
    """A file as it should be.

    Attributes:
        name: of the file.
        md5: its checksum; "": not known, so that only the length is checked, if the server tells it.
        url: where it is, where everybody may have it.
        needs_account: its server may be told who asks.
    """

    name: str
    md5: str = ""
    url: str = ""
    needs_account: bool = False


def md5_of(path: Path) -> str:
    """A file's MD5 sum, read once, with a bar."""
    digest = hashlib.md5()
    with open(path, "rb") as file, _bar(path.stat().st_size, f"checking {path.name}") as bar:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def fetch(
    archive: Archive,
    source: str,
    folder: Path,
    wait_seconds: float = 1.0,
    timeout_seconds: float = _TIMEOUT_SECONDS,
) -> Path:
    """The archive in a folder, whole and, where its MD5 sum is known, checked.

    Args:
        archive: what it should be.
        source: a URL, or a file that is there already, which stays where it is.
        folder: where it comes to.
        wait_seconds: before the second attempt; twice as long before each next one.
        timeout_seconds: of a connection, and of each wait for more bytes.

    Raises:
        ConfigurationError: a URL of another kind than http or https.
        DataError: it cannot be fetched, or is another file.
    """
    if "://" not in source:
        return _checked(Path(source).expanduser(), archive)
    if not source.startswith(("http://", "https://")):
        raise ConfigurationError(f"{source}: expected a file, or a link that begins with https:// or http://")
    folder.mkdir(parents=True, exist_ok=True)
    whole, part = folder / archive.name, folder / f"{archive.name}.part"
    if whole.exists():
        return _checked(whole, archive)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _continue(source, part, archive.needs_account, timeout_seconds)
            _version_of(part).unlink(missing_ok=True)
            break
        except (OSError, HTTPException) as error:
            if _is_final(error) or attempt == _ATTEMPTS:
                kept = f"; what has arrived is kept in {part}" if part.exists() else ""
                raise DataError(f"{redacted(source)}: {_reason(error, archive.needs_account)}{kept}") from error
            wait = min(wait_seconds * 2 ** (attempt - 1), _LONGEST_WAIT_SECONDS)
            print(f"{archive.name}: {error}: once more in {wait:g} s", file=sys.stderr)
            time.sleep(wait)
    if archive.md5 and md5_of(part) != archive.md5:
        damaged = part.replace(folder / f"{archive.name}.wrong")
        raise DataError(
            f"{redacted(source)}: expected the MD5 sum {archive.md5}, found another one: this is not {archive.name}, "
            f"or it was damaged on its way (kept as {damaged})"
        )
    return part.replace(whole)


def _is_final(error: Exception) -> bool:
    """Whether trying again changes nothing."""
    if isinstance(error, urllib.error.HTTPError):
        return 400 <= error.code < 500 and error.code not in _MAY_PASS
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


def _checked(path: Path, archive: Archive) -> Path:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    found = archive.md5 and md5_of(path)
    if found != archive.md5:
        raise DataError(f"{path}: expected {archive.name} with the MD5 sum {archive.md5}, found {found}")
    return path


def _reason(error: Exception, needs_account: bool) -> str:
    if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403):
        advice = (
            "log in at image-net.org, accept the terms, and take the link that stands there then, or set "
            "IMAGENET_COOKIE or IMAGENET_TOKEN"
            if needs_account
            else "take an address that may be read by whoever has it, such as a signed one that has not run out"
        )
        return f"{error}: the server wants to know who you are: {advice}"
    return str(error) or type(error).__name__


def _continue(url: str, part: Path, needs_account: bool, timeout_seconds: float) -> None:
    """Fetch what is missing in `part`; returns when it is whole."""
    done = part.stat().st_size if part.exists() else 0
    request = _request(url, done, needs_account)
    version = _version_of(part)
    known = version.read_text() if done and version.exists() else ""
    if known:
        # Of another version all comes, instead of a rest that does not belong to what is there.
        request.add_header("If-Range", known)
    try:
        answer = urllib.request.urlopen(request, timeout=timeout_seconds)
    except urllib.error.HTTPError as error:
        # It is an answer, too, with a connection.
        error.close()
        # Asked for what comes behind the end: it is whole already, unless the file there is a shorter one.
        if error.code == _RANGE_WRONG and error.headers.get("Content-Range", "").endswith(f"/{done}"):
            return
        if error.code == _RANGE_WRONG:
            part.unlink()
            raise OSError(f"{part.name} is longer than the file there: begun anew") from error
        raise
    with answer:
        # A server that knows no ranges sends all of it.
        start = done if answer.status == 206 else 0
        found = _validator(answer)
        if start and known and found and found != known:
            part.unlink()
            raise OSError(f"{part.name} is of another version than the file there: begun anew")
        _append(answer, part, start)


def _version_of(part: Path) -> Path:
    """The file beside a part that says of which version it is."""
    return part.with_name(f"{part.name}.version")


def _validator(answer: HTTPResponse) -> str:
    """What tells a file's versions apart, as `If-Range` takes it; "": nothing does."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")


def _request(url: str, done: int, needs_account: bool) -> urllib.request.Request:
    request = urllib.request.Request(url, headers={"User-Agent": "ffx"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    if not needs_account or not _is_private(url):
        return request
    # Not for the servers that this one sends us on to.
    if cookie := os.environ.get("IMAGENET_COOKIE"):
        request.add_unredirected_header("Cookie", cookie)
    if token := os.environ.get("IMAGENET_TOKEN"):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


def _is_private(url: str) -> bool:
    """Whether nobody on the way reads what is sent: an encrypted connection, or one that does not leave the machine."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1")


def _length(answer: HTTPResponse) -> int | None:
    text = answer.headers.get("Content-Length")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):
        raise OSError(f"the server says that {text!r} bytes are to come, which is no number")
    return int(text)


def _append(answer: HTTPResponse, part: Path, start: int) -> None:
    if start and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise OSError(f"asked for bytes from {start}, got {answer.headers.get('Content-Range')}")
    if "text/html" in answer.headers.get("Content-Type", ""):
        raise DataError(
            f"{redacted(answer.url)}: a page came instead of an archive: the link wants a login (see --help)"
        )
    length = _length(answer)
    if length is not None and length > shutil.disk_usage(part.parent).free:
        raise DataError(f"{part.parent}: {length / 2**30:.1f} GiB are to come, and the disk has no room for them")
    if not start:
        # What is there goes first: it must not be taken for one of the new version.
        part.unlink(missing_ok=True)
        _version_of(part).write_text(_validator(answer))
    received = 0
    with open(part, "ab" if start else "wb") as file, _bar(length and start + length, part.stem, start) as bar:
        while chunk := answer.read(_CHUNK_BYTES):
            file.write(chunk)
            received += len(chunk)
            bar.update(len(chunk))
    if length is not None and received < length:
        raise OSError(f"the connection ended after {received:,} of {length:,} bytes")


class _Bar(tqdm):
    monitor_interval = 0


def _bar(total: int | None, title: str, done: int = 0) -> Any:
    return _Bar(total=total, initial=done, desc=title, unit="B", unit_scale=True, leave=False, dynamic_ncols=True)
