"""Which store an address is read by: what each of them needs is imported only when it is asked for."""

from __future__ import annotations

from ..errors import RemoteError
from .address import redacted, without_secrets
from .options import RemoteOptions
from .store import Store

__all__ = ["open_store"]

# Addresses of the Open Science Data Federation, and of others of its kind.
_PELICAN = ("osdf", "pelican")


def open_store(address: str, options: RemoteOptions) -> Store:
    """The store for an address.

    Raises:
        RemoteError: what reads such addresses is not installed.
    """
    scheme = address.partition("://")[0].lower()
    shown = redacted(address)
    try:
        if scheme in ("http", "https"):
            from .http_store import HttpStore

            return HttpStore(address, options)
        if scheme == "s3":
            from .s3_store import S3Store

            return S3Store(address, options)
        from .fsspec_store import FsspecStore

        return FsspecStore(address, options)
    except ImportError as error:
        raise RemoteError(
            f"{shown}: cannot be read without further packages ({error}): pip install botocore fsspec urllib3, and "
            f"for {scheme}:// whatever its fsspec file system names"
        ) from error
    except (ValueError, TypeError, OSError) as error:
        if isinstance(error, RemoteError):
            raise
        if scheme in _PELICAN and str(error).startswith("Protocol not known"):
            raise RemoteError(
                f"{shown}: expected the package pelicanfs, which reads {scheme}://, found none: pip install pelicanfs"
            ) from None
        text = without_secrets(str(error), address)
        raise RemoteError(f"{shown}: cannot be opened: {text}") from None
