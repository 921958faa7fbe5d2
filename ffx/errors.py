"""Every exception and warning that ffx raises, in one family under `FfxError`.

Each class also derives from the built-in that a caller would expect there, so that
`except ValueError` round a bad file keeps working for somebody who has not read this page.
"""

__all__ = [
    "FfxError",
    "FormatError",
    "ChecksumError",
    "ArchiveError",
    "FieldError",
    "WriterError",
    "SampleError",
    "DecodeError",
    "SampleChecksumError",
    "PipelineError",
    "OperationError",
    "RemoteError",
    "LoaderError",
    "LibraryError",
    "FfxWarning",
]


class FfxError(Exception):
    """Root of everything that ffx raises on purpose."""


class FormatError(FfxError, ValueError):
    """A file is not a valid `.beton` file: says where, what was expected and what was found.

    Attributes:
        path: the file, or `None`.
        where: the part of the file that is wrong, or `None`.
        expected: what should stand there, in words, or `None`.
        found: what stands there, in words, or `None`.
    """

    def __init__(
        self,
        message: str,
        path: str | None = None,
        where: str | None = None,
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        super().__init__(message)
        self.path = path
        self.where = where
        self.expected = expected
        self.found = found

    def __reduce__(self):
        return type(self), (self.args[0], self.path, self.where, self.expected, self.found)


class ChecksumError(FormatError):
    """Bytes of a file differ from the checksum that its writer stored."""


class ArchiveError(FfxError, ValueError):
    """A tar archive cannot be used: names the archive, and the member or the offset where something is wrong."""


class FieldError(FfxError, TypeError):
    """A value cannot be stored in the field that it was given to, or a field is ill-defined."""


class WriterError(FfxError, RuntimeError):
    """A data set could not be written; nothing stands at the final path."""


class SampleError(WriterError):
    """One sample stopped the writer: the message names its index in the source.

    Attributes:
        index: the sample's index in the source data set.
    """

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index

    def __reduce__(self):
        return type(self), (self.args[0], self.index)


class PipelineError(FfxError, ValueError):
    """A pipeline cannot be built: names the pipeline, the operation and what to change."""


class LoaderError(FfxError, RuntimeError):
    """A batch could not be made; the original exception, if any, is the cause."""


class DecodeError(LoaderError):
    """A stored sample could not be decoded.

    Attributes:
        field: name of the field, or `None`.
        sample_id: index of the sample in the file, or `None`.
    """

    def __init__(self, message: str, field: str | None = None, sample_id: int | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.sample_id = sample_id

    def __reduce__(self):
        return type(self), (self.args[0], self.field, self.sample_id)


class SampleChecksumError(DecodeError, ChecksumError):
    """A stored sample differs from the checksum that its writer stored.

    Attributes:
        path: the file.
        offset: where the damaged bytes begin in it, or `None`.
    """

    def __init__(
        self,
        message: str,
        path: str | None = None,
        field: str | None = None,
        sample_id: int | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(message, field, sample_id)
        self.path = path
        self.where = None if sample_id is None else f"sample {sample_id}"
        self.expected, self.found = "bytes with the checksum that their writer stored", "others"
        self.offset = offset

    def __reduce__(self):
        return type(self), (self.args[0], self.path, self.field, self.sample_id, self.offset)


class OperationError(LoaderError):
    """An operation of a pipeline raised; the original exception is the cause."""


class RemoteError(FfxError, OSError):
    """A file behind an address could not be read: the message names the address, without any credentials in it.

    Attributes:
        changed: another version of the file stands at the address now.
    """

    def __init__(self, message: str, changed: bool = False) -> None:
        super().__init__(message)
        self.changed = changed

    def __reduce__(self):
        return type(self), (self.args[0], self.changed)


class LibraryError(FfxError, ImportError):
    """A shared library that ffx calls is missing or too old; the message says how to get it."""


class FfxWarning(UserWarning):
    """What ffx warns of: legal, but probably not what the caller wants."""
