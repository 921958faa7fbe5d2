"""Files behind addresses (`https://`, `s3://`, whatever fsspec knows), read by ranges into a cache on a disk."""

from .address import is_remote, redacted
from .file import RemoteFile
from .listing import list_files
from .options import RemoteOptions

__all__ = ["RemoteFile", "RemoteOptions", "is_remote", "list_files", "redacted"]
