"""Write data sets: `DatasetWriter`; `JPEGFolder` and `ImageArchive` for pictures in folders and in tar archives.

`dataset_writer` is what users call; `sources` gives samples, `encoder` makes bytes of them, `workers`
does so in several processes, `assembly` puts the results together, `output` makes the file appear.
`merging` makes one file of shards.
"""

from __future__ import annotations

from ..format import MAX_PAGE_BYTES, MIN_PAGE_BYTES
from .archive import ImageArchive
from .dataset_writer import DatasetWriter
from .folder import JPEGFolder
from .merging import merge_files
from .tar import TarArchive, TarMember

MIN_PAGE_SIZE = MIN_PAGE_BYTES
MAX_PAGE_SIZE = MAX_PAGE_BYTES * 2

__all__ = [
    "MAX_PAGE_SIZE",
    "MIN_PAGE_SIZE",
    "DatasetWriter",
    "ImageArchive",
    "JPEGFolder",
    "TarArchive",
    "TarMember",
    "merge_files",
]
