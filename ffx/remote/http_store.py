"""Ranges over HTTP: one connection a request at a time, each answer held against what was asked."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3

from .options import RemoteOptions
from .store import Store, TemporaryProblem, Version, check_content_range

__all__ = ["HttpStore"]

_PIECE = 1 << 18
_WORTH_ANOTHER_TRY = (408, 425, 429)


class HttpStore(Store):
    """A file of an HTTP server that knows ranges."""

    def __init__(self, address: str, options: RemoteOptions) -> None:
        super().__init__(address, options)
        self.check_options({"headers", "ca_certs"})
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
        self._url = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "ffx"}
        if parts.username is not None:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers.update(urllib3.make_headers(basic_auth=user))
        self._headers.update(options.storage_options.get("headers", {}))
        self._secret_headers = [str(name) for name in options.storage_options.get("headers", {})]
        self._pool = self._make_pool(parts.scheme.lower(), parts.hostname or "")

    def _make_pool(self, scheme: str, host: str) -> urllib3.PoolManager:
        limit = self.options.timeout_seconds
        # Other tries are made by whoever asks, who keeps what has come so far.
        retries = urllib3.Retry(
            total=None,
            connect=0,
            read=0,
            status=0,
            other=0,
            redirect=8,
            raise_on_status=False,
            # Any of them may be a secret, and another host has no right to it.
            remove_headers_on_redirect={*urllib3.Retry.DEFAULT_REMOVE_HEADERS_ON_REDIRECT, *self._secret_headers},
        )
        arguments = {
            "timeout": urllib3.Timeout(connect=limit, read=limit),
            "retries": retries,
            "maxsize": self.options.requests,
            "ca_certs": self.options.storage_options.get("ca_certs"),
        }
        proxy = urllib.request.getproxies().get(scheme)
        if proxy and not urllib.request.proxy_bypass(host):
            return urllib3.ProxyManager(proxy, **arguments)
        return urllib3.PoolManager(**arguments)

    def version(self) -> Version:
        """See `Store`; asked with a range, since not all who give files answer HEAD."""
        answer = self._ask({"Range": "bytes=0-0"})
        try:
            if answer.status == 200:
                raise self.refused("the server ignores ranges (status 200 for 206)", "download the file instead")
            self._check_status(answer)
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if not (total.isascii() and total.isdecimal()):
                raise self.refused(f"expected a Content-Range with the file's length, found one with {total!r}")
            return _version(int(total), answer.headers)
        finally:
            answer.close()

    def stream(self, start: int, stop: int, version: Version) -> Iterator[bytes]:
        """See `Store`."""
        asked = {"Range": f"bytes={start}-{stop - 1}"}
        if version.etag and not version.etag.startswith("W/"):
            asked["If-Match"] = version.etag
        answer = self._ask(asked)
        try:
            if answer.status == 412:
                version.check(self.shown, self.version())
            self._check_status(answer)
            version.check(self.shown, _version(version.size, answer.headers))
            check_content_range(answer.headers.get("Content-Range", ""), start, stop, self, version)
            coding = answer.headers.get("Content-Encoding", "identity")
            if coding != "identity":
                raise self.refused(f"expected the bytes as they are, found them in Content-Encoding {coding}")
            yield from self._pieces(answer)
        finally:
            # One that was read to its end has given its connection back to the pool; any other's is of no more use.
            answer.close()

    def _pieces(self, answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        try:
            # Whoever drips never lets a whole piece come, so it takes what there is.
            while piece := answer.read1(_PIECE, decode_content=False):
                yield piece
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TemporaryProblem(_reason(error)) from None

    def _ask(self, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
        try:
            return self._pool.request("GET", self._url, headers={**self._headers, **headers}, preload_content=False)
        except (urllib3.exceptions.LocationValueError, urllib3.exceptions.ResponseError) as error:
            raise self.refused(f"it leads to no http(s) address: {type(error).__name__}") from None
        except urllib3.exceptions.MaxRetryError as error:
            if isinstance(error.reason, urllib3.exceptions.ResponseError):
                raise self.refused("too many redirections") from None
            raise TemporaryProblem(_reason(error.reason)) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TemporaryProblem(_reason(error)) from None

    def _check_status(self, answer: urllib3.BaseHTTPResponse) -> None:
        status = answer.status
        if status == 206:
            return
        if status >= 500 or status in (200, 412, *_WORTH_ANOTHER_TRY):
            reason = "the whole file for a range" if status == 200 else answer.reason or ""
            raise TemporaryProblem(f"expected status 206, found {status} {reason}")
        hint = {
            401: "give credentials: storage_options={'headers': {'Authorization': …}}",
            403: "are you allowed to read it?",
            404: "is the address right?",
        }
        raise self.refused(f"expected status 206, found {status} {answer.reason or ''}", hint.get(status, ""))


def _reason(error: BaseException | None) -> str:
    # Their texts may hold the address with all that is secret in it.
    return type(error).__name__


def _version(size: int, headers: Mapping[str, str]) -> Version:
    return Version(size, headers.get("ETag", ""), headers.get("Last-Modified", ""))
