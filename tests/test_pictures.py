"""The made pictures are worth testing with: seeded, asymmetric, and compressible like photographs."""

import numpy as np

from tests.pictures import PictureDataset, decode_jpeg, encode_jpeg, make_picture, peak_signal_to_noise


def test_picture_depends_only_on_its_arguments():
    assert np.array_equal(make_picture(50, 60, seed=3), make_picture(50, 60, seed=3))
    assert not np.array_equal(make_picture(50, 60, seed=3), make_picture(50, 60, seed=4))


def test_picture_differs_from_its_mirror():
    picture = make_picture(64, 64, seed=1)
    assert peak_signal_to_noise(picture, picture[:, ::-1]) < 30


def test_picture_survives_jpeg_and_is_made_smaller_by_it():
    picture = make_picture(200, 300, seed=5)
    encoded = encode_jpeg(picture, quality=90)
    assert peak_signal_to_noise(picture, decode_jpeg(encoded)) > 28
    assert 0.02 * picture.nbytes < len(encoded) < 0.4 * picture.nbytes


def test_dataset_has_pictures_of_many_sizes(picture_folder):
    dataset = PictureDataset(20)
    assert len({dataset[index][0].size for index in range(20)}) > 10
    assert len(list(picture_folder.glob("train/*/*.JPEG"))) == 40
