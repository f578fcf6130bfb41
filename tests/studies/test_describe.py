"""Keys: the same in every process, and different for every difference in settings."""

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from matrix.small import DIVISION, NONE, Guess

from gilib import models
from gilib.matrix import DEFENSES, matrix
from gilib.studies import describe, key


def test_every_cell_of_the_matrix_has_a_key_of_its_own_which_another_process_agrees_with() -> None:
    keys = [cell.key for cell in matrix()]
    assert len(set(keys)) == len(keys)
    code = "from gilib.matrix import *; print([c.key for c in matrix()][::25])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip() == str(keys[::25])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Guess(), Guess(level=0.4)),
        (NONE, DEFENSES[1]),
        (torch.zeros(3), torch.zeros(3).double()),
        (torch.zeros(2, 3), torch.ones(2, 3)),
        (models.mlp(seed=0), models.mlp(seed=1)),
        (models.mlp(activation="relu"), models.mlp(activation="tanh")),
        ({"a": 1}, {"a": 2}),
        (torch.relu, torch.sigmoid),
    ],
)
def test_different_settings_have_different_keys(one: object, other: object) -> None:
    assert key(one) != key(other)
    assert key(one) == key(one)


def test_equal_settings_have_equal_keys() -> None:
    assert key(models.mlp(seed=3)) == key(models.mlp(seed=3))
    assert key([DIVISION, {"b": 1, "a": 2}]) == key((DIVISION, {"a": 2, "b": 1}))


def test_an_object_that_prints_its_address_is_refused() -> None:
    class Opaque:
        pass

    with pytest.raises(TypeError, match="frozen dataclass"):
        describe(Opaque())


def test_a_class_of_the_same_fields_is_another_setting() -> None:
    @dataclass(frozen=True)
    class Other:
        name: str = "Guess"
        network: str = "MLP"
        level: float = 0.5

    assert key(Other()) != key(Guess())
