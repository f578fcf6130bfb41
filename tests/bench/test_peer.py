"""The peer library runs what we say it runs."""

import pytest
import torch

from bench import cases, peer
from bench.cases import BREACHING, BREACHING_SAME_TV, SAME_TV, TV
from gilib import metrics
from gilib.iteration.matching import cosine
from gilib.iteration.priors import total_variation

pytestmark = pytest.mark.usefixtures("breaching")


def theirs(model: torch.nn.Module, *overrides: str):
    return peer.attacker(model, ("invertinggradients", overrides))


@pytest.fixture(scope="module")
def case():
    return cases.convnet(80, size=16)


def test_settings_are_those_named(case):
    default, same = (peer.attacker(case.model, case.peer_quality[name]) for name in (BREACHING, BREACHING_SAME_TV))
    assert default.cfg.regularization.total_variation.scale == 0.2
    assert same.cfg.regularization.total_variation.scale == TV == 1e-3
    [prior] = case.quality.priors
    assert prior.weight == TV
    for attack in (default, same):
        assert attack.cfg.optim.max_iterations == case.quality.iterations == 80
        assert attack.cfg.objective.type == "cosine-similarity"


def test_the_same_weight_of_total_variation_means_nearly_the_same(case):
    """Ours divides by the differences, breaching's by the pixels; and breaching's counts a black frame below and right.

    With a black last row and column the frame adds nothing, and what remains is the factor.
    """
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images[..., -1, :], images[..., :, -1] = 0, 0
    [prior] = theirs(case.model, SAME_TV).regularizers
    assert float(prior(images)) == pytest.approx(float(total_variation(TV)(images)) * 15 / 16, rel=1e-4)
    framed = float(prior(torch.ones(1, 3, 16, 16)))  # flat: no difference but that to the frame
    assert framed == pytest.approx(TV * 2 / 16, rel=1e-4)
    assert float(total_variation(TV)(torch.ones(1, 3, 16, 16))) == 0


def test_both_compute_the_same_cosine(case):
    batches, updates = cases.victims(case.model, 2, size=16)
    objective = theirs(case.model).objective
    one, other = (update.gradients for update in updates)
    assert float(objective.gradient_based_loss(list(one.values()), list(other.values()))) == pytest.approx(
        float(cosine()(one, other)), abs=1e-6
    )
    assert len(batches) == 2


def test_it_reconstructs_in_the_range_of_images_and_is_timed_each_iteration(case):
    [batch], [update] = cases.victims(case.model, 1, size=16)
    attack = peer.attacker(case.model, case.peer_quality[BREACHING_SAME_TV])
    torch.manual_seed(0)
    images = peer.run(attack, case.model, batch, update)
    assert images.shape == batch.images.shape
    assert (images.amin() >= 0) & (images.amax() <= 1)
    assert metrics.psnr(images, batch.images) > 18
    ended = peer.timed(attack, case.model, batch, update)
    assert len(ended) == 80
    assert ended == sorted(ended)
