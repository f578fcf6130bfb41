"""Results by their settings."""

import pytest
import torch

from gilib.studies import gathered


def result(setting: str, stage: int, psnr: list[float], nearest: list[int]) -> dict:
    return {
        "setting": setting,
        "psnr": psnr,
        "nearest": nearest,
        "own": [0, 1],
        "right": 0.5,
        "settings": {"setting": setting, "net": {"name": "LeNet", "stage": stage}, "batch": 1},
    }


RESULTS = [
    result("cosine", 0, [20.0, 21.0], [0, 1]),
    result("cosine", 0, [22.0, 23.0], [5, 1]),
    result("cosine", 10, [12.0, 13.0], [5, 5]),
    result("L1", 0, [14.0, 15.0], [0, 5]),
]


def test_cells_that_agree_are_joined_in_order():
    found = gathered(RESULTS, setting="cosine", net={"stage": 0})
    assert found["psnr"].tolist() == [20.0, 21.0, 22.0, 23.0]
    assert torch.equal(found["named"], torch.tensor([True, True, False, True]))
    assert "right" not in found
    assert gathered(RESULTS, batch=1)["psnr"].numel() == 8


def test_settings_that_nothing_has_are_an_error():
    with pytest.raises(ValueError, match="no result of this study"):
        gathered(RESULTS, setting="cosine", net={"stage": 5})
