"""The stored rounds come back: every federation runs again and is compared. Runs where Flower is installed."""

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower has an environment of its own: make interop-tests")

from bench.flower.federations import costs, federations
from bench.flower.record import flat, recorded
from bench.flower.stored import about, stored
from bench.flower.task import accuracy


@pytest.mark.parametrize("name", federations())
def test_the_stored_rounds_come_back(name):
    again, found = recorded(federations()[name]), stored(name)
    assert [row["node"] for row in again.rows] == [row["node"] for row in about()["federations"][name]["rows"]]
    np.testing.assert_allclose([row["loss"] for row in again.rows], found.losses, rtol=1e-4)
    for row, kept in zip(again.rows, found.kept, strict=False):  # there are none under the secure sum
        np.testing.assert_allclose(row["before"], flat(kept.before), atol=1e-6)
        np.testing.assert_allclose(row["after"], flat(kept.after), atol=1e-5)
        assert row["examples"] == kept.examples
    if found.masked:  # Flower rounds at random
        np.testing.assert_allclose(again.rows[0]["mean"], flat(found.mean), atol=1e-4)
        assert not np.array_equal(again.rows[0]["masked"], found.masked[0])  # other keys, other masks
    assert names(again.messages) == names(about()["federations"][name]["messages"])


def names(messages) -> list:
    """What messages hold, without numbers, which may differ in the last digits."""
    return [[(one["record"], one["kind"], list(one["entries"])) for one in held] for held in messages]


def test_ten_rounds_have_the_stored_accuracy():
    again, found = recorded(costs()["none"]), about()["costs"]["none"]
    assert accuracy(again.last) == pytest.approx(found["accuracy"], abs=0.01)
    assert again.bytes == pytest.approx(found["bytes"], rel=0.01)
