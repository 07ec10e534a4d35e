import pytest
import torch

from realuid.data.pixels import to_float, to_uint8

LEVELS = torch.arange(256).to(torch.uint8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_every_level_survives(dtype):
    assert torch.equal(to_uint8(to_float(LEVELS).to(dtype)), LEVELS)


def test_range():
    floats = to_float(LEVELS)
    assert floats.dtype == torch.float32
    assert (floats[0], floats[255]) == (-1, 1)
    torch.testing.assert_close(floats, torch.linspace(-1, 1, 256))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_floats_are_in_the_models_units_already(dtype):
    z = torch.tensor([-3.0, 0.0, 0.5, 200.0], dtype=dtype)
    assert torch.equal(to_float(z), z.float())
    assert to_float(z).dtype == torch.float32


def test_nearest_level():
    x = torch.linspace(-1, 1, 10_007, dtype=torch.float64)
    distance = (to_float(to_uint8(x)).double() - x).abs().max()
    assert distance <= 1 / 255 + 1e-6  # half a level


def test_out_of_range_is_clipped():
    assert to_uint8(torch.tensor([-5.0, -1.01, 1.01, 5.0])).tolist() == [0, 0, 255, 255]
