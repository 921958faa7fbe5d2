"""Ranges of S3's objects through botocore, which knows all ways of having credentials.

Not through obstore, though it needs less of the processor: in a forked process it waits for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import botocore.exceptions
import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from urllib3.exceptions import HTTPError

from .options import RemoteOptions
from .store import Store, TemporaryProblem, Version, check_content_range

__all__ = ["S3Store"]

_PIECE = 1 << 18
_EXPECTED = "expected s3://bucket/key or s3://bucket/key?versionId=number"
# Of a thousand names each.
_MOST_LISTS = 10
_PERMANENT = (
    botocore.exceptions.NoCredentialsError,
    botocore.exceptions.PartialCredentialsError,
    botocore.exceptions.ParamValidationError,
    botocore.exceptions.ProfileNotFound,
)


class S3Store(Store):
    """An object `s3://bucket/key`, or one version of it, `s3://bucket/key?versionId=number`."""

    def __init__(self, address: str, options: RemoteOptions) -> None:
        super().__init__(address, options)
        self.check_options({"anon", "key", "secret", "token", "profile", "endpoint_url", "region_name"})
        place, mark, query = address.partition("://")[2].partition("?")
        self._bucket, _, self._key = place.partition("/")
        name, _, number = query.partition("=")
        if not self._bucket or (mark and (name != "versionId" or not number)):
            raise self.refused("its form", _EXPECTED)
        self._chosen = {"VersionId": number} if number else {}
        try:
            self._client = self._make_client()
        except botocore.exceptions.BotoCoreError as error:
            raise self.refused(error) from None

    def _make_client(self) -> Any:
        chosen, limit = self.options.storage_options, self.options.timeout_seconds
        config = Config(
            connect_timeout=limit,
            read_timeout=limit,
            # Other tries are made by whoever asks, who keeps what has come so far.
            retries={"total_max_attempts": 1},
            max_pool_connections=self.options.requests,
            signature_version=UNSIGNED if chosen.get("anon") else None,
        )
        return botocore.session.Session(profile=chosen.get("profile")).create_client(
            "s3",
            endpoint_url=chosen.get("endpoint_url"),
            region_name=chosen.get("region_name"),
            aws_access_key_id=chosen.get("key"),
            aws_secret_access_key=chosen.get("secret"),
            aws_session_token=chosen.get("token"),
            config=config,
        )

    def version(self) -> Version:
        """See `Store`."""
        if not self._key:
            raise self.refused("it names no object", _EXPECTED)
        answer = self._ask("head_object", Key=self._key, **self._chosen)
        if not answer.get("ETag"):
            raise self.refused("whatever answers gives no ETag, as S3 does", "is the endpoint right?")
        return _version(int(answer["ContentLength"]), answer)

    def stream(self, start: int, stop: int, version: Version) -> Iterator[bytes]:
        """See `Store`."""
        chosen = {"Range": f"bytes={start}-{stop - 1}", "IfMatch": version.etag, **self._chosen}
        answer = self._ask("get_object", version, Key=self._key, **chosen)
        body = answer["Body"]
        try:
            version.check(self.shown, _version(version.size, answer))
            check_content_range(answer.get("ContentRange", ""), start, stop, self, version)
            yield from _pieces(body)
        finally:
            body.close()

    def names(self) -> list[str]:
        """See `Store`."""
        if self._chosen:
            raise self.refused("expected what addresses begin with, found one version", "leave ?versionId= out")
        found: list[str] = []
        arguments = {"Prefix": self._key, "Delimiter": "/"}
        for _ in range(_MOST_LISTS):
            answer = self._ask("list_objects_v2", None, **arguments)
            found += [str(one["Key"]) for one in answer.get("Contents", ())]
            if not answer.get("IsTruncated"):
                return [f"s3://{self._bucket}/{key}" for key in found]
            arguments["ContinuationToken"] = str(answer.get("NextContinuationToken", ""))
        raise self.refused(f"more than {len(found)} objects begin so", "give more of the name")

    def _ask(self, operation: str, version: Version | None = None, /, **arguments: str) -> dict[str, Any]:
        try:
            return getattr(self._client, operation)(Bucket=self._bucket, **arguments)
        except botocore.exceptions.ClientError as error:
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            code = str(error.response.get("Error", {}).get("Code", ""))
            if status == 412 and version is not None:
                version.check(self.shown, self.version())
            if status >= 500 or status in (408, 412, 429) or code in ("SlowDown", "RequestTimeout"):
                raise TemporaryProblem(f"status {status} {code}") from None
            hint = {403: "are the credentials right, and allowed to read it?", 404: "is there such a bucket and key?"}
            raise self.refused(f"status {status} {code}", hint.get(status, "")) from None
        except RecursionError:
            # botocore looks for the bucket's region behind a redirection, with a request that is redirected, too.
            raise self.refused("it is redirected, and no region is named", "see region_name") from None
        except _PERMANENT as error:
            raise self.refused(error, "see storage_options, or set AWS_PROFILE, …; anon=True asks for none") from None
        except (botocore.exceptions.BotoCoreError, OSError) as error:
            raise TemporaryProblem(type(error).__name__) from None


def _pieces(body: Any) -> Iterator[bytes]:
    try:
        # botocore's own reading waits for whole pieces, which whoever drips never lets come.
        while piece := body._raw_stream.read1(_PIECE):
            yield piece
    except (HTTPError, OSError) as error:
        raise TemporaryProblem(type(error).__name__) from error


def _version(size: int, answer: dict[str, Any]) -> Version:
    modified = answer.get("LastModified")
    return Version(size, answer.get("ETag", ""), "" if modified is None else modified.isoformat())
