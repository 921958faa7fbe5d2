"""Writing from a program that has used OpenCV already: forked processes inherit its pool of threads."""

import cv2
import numpy as np

from ffx.fields import IntField, RGBImageField
from ffx.reader import Reader
from ffx.writer import DatasetWriter
from tests.pictures import PictureDataset


def test_processes_forked_after_opencv_has_started_its_threads(tmp_path):
    threads = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        # Large enough that OpenCV shares the work among its threads.
        cv2.GaussianBlur(np.zeros((2000, 3000, 3), np.uint8), (9, 9), 2)
        path = str(tmp_path / "after.beton")
        fields = {"image": RGBImageField("jpg", max_resolution=30), "label": IntField()}
        DatasetWriter(path, fields, num_workers=2, progress=False).from_indexed_dataset(PictureDataset(12))
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(threads)
    assert Reader(path).num_samples == 12
