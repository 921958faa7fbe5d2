"""Write data sets: `DatasetWriter`, and `JPEGFolder` for folders of images that are encoded already.

`dataset_writer` is what users call; `sources` gives samples, `encoder` makes bytes of them, `workers`
does so in several processes, `assembly` puts the results together, `output` makes the file appear.
"""

from __future__ import annotations

from ..format import MAX_PAGE_BYTES, MIN_PAGE_BYTES
from .dataset_writer import DatasetWriter
from .folder import JPEGFolder

MIN_PAGE_SIZE = MIN_PAGE_BYTES
MAX_PAGE_SIZE = MAX_PAGE_BYTES * 2

__all__ = ["MAX_PAGE_SIZE", "MIN_PAGE_SIZE", "DatasetWriter", "JPEGFolder"]
