import numpy as np
import pytest
import torch
from PIL import Image

from realuid.evaluation.image_grid import SEPARATOR, image_grid, save_grid


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
@pytest.mark.parametrize("scale", [1, 2, 6])
def test_every_pixel_is_where_it_belongs(channels, mode, scale):
    images = torch.randint(0, 256, (5, channels, 3, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    picture = image_grid(images, columns=2, scale=scale)
    assert picture.mode == mode
    line = max(1, scale // 3)
    expected = np.full((3 * 3 * scale + 2 * line, 2 * 4 * scale + line, channels), SEPARATOR, np.uint8)
    for index in range(5):
        top, left = index // 2 * (3 * scale + line), index % 2 * (4 * scale + line)
        for row in range(3 * scale):
            for column in range(4 * scale):
                expected[top + row, left + column] = images[index, :, row // scale, column // scale]
    assert np.array_equal(np.asarray(picture).reshape(expected.shape), expected)


def test_fewer_images_than_columns_leave_no_gap():
    assert image_grid(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), columns=10, scale=1).size == (17, 8)


def test_saved_losslessly_and_nothing_else_left(tmp_path):
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "samples" / "step_0000100.png"
    save_grid(path, images, columns=2, scale=3)
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(image_grid(images, 2, 3)))
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 1, 4, 4), torch.zeros(1, 4, 4, dtype=torch.uint8), torch.zeros(0, 1, 4, 4, dtype=torch.uint8)],
)
def test_what_is_no_stack_of_images_is_refused(images):
    with pytest.raises(ValueError, match="uint8"):
        image_grid(images, columns=2, scale=1)


def test_columns_and_scale_are_counts():
    with pytest.raises(ValueError, match="columns"):
        image_grid(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), columns=0, scale=1)
