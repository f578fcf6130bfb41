"""What was kept of another engine becomes an update that attacks take."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from gilib import data, metrics, models
from gilib.federated import Client, LocalTraining
from gilib.interop.kept import Kept
from gilib.recursion import phong

BATCH = data.load("digits").batch([0])
RATE = 0.1


def trained() -> tuple[nn.Module, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A model, and the weights before and after one step of a real optimizer on one digit."""
    model = models.mlp(channels=1, size=8, hidden=(32,))
    working = models.mlp(channels=1, size=8, hidden=(32,))
    working.load_state_dict(model.state_dict())
    before = {name: value.clone() for name, value in working.state_dict().items()}
    optimizer = torch.optim.SGD(working.parameters(), lr=RATE)
    nn.functional.cross_entropy(working(BATCH.images), BATCH.labels).backward()
    optimizer.step()
    return model, before, working.state_dict()


@pytest.mark.parametrize("as_arrays", [False, True])
def test_a_kept_round_gives_the_image_back(as_arrays):
    model, before, after = trained()
    weights = [[value.numpy() for value in one.values()] if as_arrays else one for one in (before, after)]
    kept = Kept(*weights, node=7, round=1, examples=1)
    received, update = kept.update(model, image_shape=(1, 8, 8), local=LocalTraining(learning_rate=RATE))
    expected = Client(model).update(BATCH)
    for name, value in expected.gradients.items():
        torch.testing.assert_close(update.gradients[name], value, rtol=1e-3, atol=1e-5)
    assert float(metrics.psnr(phong(received, update).images.clamp(0, 1), BATCH.images)) > 60


def test_a_kept_round_as_files(tmp_path):
    model, before, after = trained()
    first, second = Kept(before, after, node=7, round=1).save(tmp_path / "round 1", model)
    assert torch.equal(torch.load(first)["linear1.weight"], before["linear1.weight"])
    assert torch.equal(torch.load(second)["linear1.weight"], after["linear1.weight"])


def test_what_does_not_fit_is_refused():
    model, before, after = trained()
    local = LocalTraining(learning_rate=RATE)
    with pytest.raises(ValueError, match="give batch_size"):
        Kept(before, after, node=7, round=1).update(model, image_shape=(1, 8, 8), local=local)
    with pytest.raises(ValueError, match="expected the weights as 4 arrays"):
        Kept([], [], node=7, round=1, examples=1).update(model, image_shape=(1, 8, 8), local=local)
    with pytest.raises(ValueError, match="another model"):
        Kept(before, after, node=7, round=1, examples=1).update(nn.Linear(2, 2), image_shape=(1, 8, 8), local=local)


def test_the_library_does_not_need_an_engine():
    code = "import gilib.interop, gilib.audit, sys; assert not {'flwr', 'peft'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
