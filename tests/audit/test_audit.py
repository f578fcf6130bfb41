"""The audit finds what leaks, says where it could not look, and never learns from the truth."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from gilib import data, models
from gilib.audit import Finding, Report, Settings, Target, audit
from gilib.audit.adaptation import KNOWN, adaptation_of
from gilib.audit.finding import attempt
from gilib.audit.judge import Judge, luck
from gilib.audit.plans import plans
from gilib.audit.reading import with_labels
from gilib.audit.searching import Outcome, Searches, agreement, chosen
from gilib.audit.solving import divide, solvers
from gilib.audit.target import untrained
from gilib.defenses import gradient, model, obscuration, privacy
from gilib.defenses.local_training import local_iterations
from gilib.federated import Client, Defense, LocalTraining
from gilib.iteration.reconstruction import NoFiniteStartError

DIGITS = data.load("digits")


def dense() -> nn.Module:
    return models.mlp(channels=1, size=8, hidden=(64,))


def lenet() -> nn.Module:
    return models.lenet(channels=1, size=8, width=8, activation="tanh", bound=0.15)


def target(net: nn.Module, *, batch: int = 1, victims: int = 3, **client) -> Target:
    return Target(Client(net, seed=0, **client), DIGITS, batch, victims)


def findings(report: Report) -> dict[str, Finding]:
    return {one.check: one for one in report.findings}


SHORT = Settings(iterations=16)
"""Searches of 4 and 16 iterations, for what does not depend on what they find."""


def test_a_dense_first_layer_leaks_exactly():
    report = audit(target(dense()), SHORT)
    division = findings(report)["first layer by division"]
    assert report.verdict == "images leak"
    assert report.exit_code == 2
    assert division.level == "leak"
    assert min(division.numbers["psnr"]) > 100
    assert division.numbers["named"] == [True] * 3
    assert not report.control  # nothing more to prove
    assert not any("search" in one.check for one in report.findings)  # every image has come back


def test_a_batch_of_a_dense_layer_leaks_exactly():
    report = audit(target(dense(), batch=4, victims=2), SHORT)
    solved = findings(report)["whole batch (SPEAR)"]
    assert solved.level == "leak"
    assert min(solved.numbers["psnr"]) > 60
    assert solved.numbers["exact"] == 2


def test_a_search_recovers_the_undefended_lenet():
    report = audit(target(lenet(), batch=2, victims=1), Settings(iterations=200))
    best = findings(report)[f"chosen search: {report.selected}"]
    assert best.level == "leak"
    assert min(best.numbers["psnr"]) > 25
    assert best.numbers["iterations"] == 200
    assert report.verdict == "images leak"
    assert report.selected in " ".join(report.meaning())


def test_counted_audits_are_the_same_every_time():
    one, other = (audit(target(lenet(), batch=2, victims=1), SHORT).as_json() for _ in range(2))
    for report in (one, other):
        report["seconds"] = 0
        for finding in report["findings"] + report["control"]:
            finding["seconds"] = 0
    assert one == other
    rounds = [one for one in one["findings"] if "search" in one["check"]]
    assert [one["numbers"]["iterations"] for one in rounds] == [4] * (len(rounds) - 1) + [16]


def test_strong_noise_is_told_apart_from_weak_attacks():
    noisy = target(lenet(), victims=2, defenses=(privacy.dp_sgd(1.0, 3.0),))
    report = audit(noisy, Settings(iterations=60))
    assert report.verdict in {"nothing found", "partial leak"}
    assert report.control_recovered
    assert all(max(one.numbers["psnr"]) < 25 for one in report.findings if "psnr" in one.numbers)
    assert "epsilon" in report.guarantee
    assert not report.unadapted
    assert findings(report)["layer by layer (R-GAP)"].unadapted == ("dp_sgd",)
    assert any("search" in one.check and one.level == "leak" for one in report.control)  # R-GAP alone proves nothing
    refused = {one.check for one in report.findings if one.level == "no answer"}
    assert refused
    assert not refused & {one.check for one in report.control}  # the control tries what could look at the client


def test_attacks_that_are_too_weak_give_no_answer():
    crowded = target(models.lenet(channels=1, size=8, width=8, activation="sigmoid"), victims=1, batch=32)
    report = audit(crowded, Settings(iterations=4))
    assert report.control_recovered is False
    assert report.verdict == "partial leak"  # labels
    assert "says nothing" in " ".join(report.meaning())
    quiet = replace(report, findings=[one for one in report.findings if one.level != "partial"])
    assert quiet.verdict == "no answer"
    assert quiet.exit_code == 3
    assert "too weak" in quiet.meaning()[0]


class Turned(Defense):
    """A reader's own defense, of which nothing is known: it trains on the negative of every image."""

    def obscure(self, batch, *, generator):
        return data.Batch(1 - batch.images, batch.labels)


def test_a_defense_that_nothing_is_adapted_to_gives_no_answer():
    one = replace(target(lenet(), victims=4, defenses=(Turned(),)))
    report = audit(one, SHORT)
    assert report.unadapted == ("Turned",)
    assert "leak" not in {one.level for one in report.findings}
    quiet = replace(report, findings=[one for one in report.findings if one.level != "partial"])
    assert quiet.control_recovered
    assert quiet.verdict == "no answer"
    assert "no account of Turned" in quiet.meaning()[0]


@pytest.mark.parametrize(
    ("levels", "control", "interrupted", "verdict", "code"),
    [
        (["nothing"], ["leak"], False, "nothing found", 0),
        (["nothing", "no answer"], ["leak"], False, "nothing found", 0),
        (["nothing"], ["nothing"], False, "no answer", 3),
        (["nothing"], ["partial"], False, "no answer", 3),
        (["nothing"], [], False, "no answer", 3),
        (["no answer"], ["leak"], False, "no answer", 3),
        (["nothing", "partial"], ["nothing"], False, "partial leak", 1),
        (["partial", "leak"], [], False, "images leak", 2),
        (["nothing"], ["leak"], True, "no answer", 130),
    ],
)
def test_verdicts(levels, control, interrupted, verdict, code):
    made = [[Finding(f"check {place}", level, "") for place, level in enumerate(some)] for some in (levels, control)]
    report = Report(target(dense()), Settings(), *made, "", interrupted, 1.0)
    assert report.verdict == verdict
    assert report.exit_code == code


def test_a_control_counts_only_by_what_looked_at_the_client():
    control = [Finding("layer by layer (R-GAP)", "leak", ""), Finding("search: linear loss", "nothing", "")]
    found = [Finding("layer by layer (R-GAP)", "no answer", ""), Finding("search: linear loss", "nothing", "")]
    assert Report(target(dense()), Settings(), found, control, "", False, 1.0).verdict == "no answer"
    control[1] = Finding("chosen search: linear loss", "leak", "")
    assert Report(target(dense()), Settings(), found, control, "", False, 1.0).verdict == "nothing found"


def test_a_control_by_attacks_that_ignore_a_defense_is_no_answer():
    found = [
        Finding("layer by layer (R-GAP)", "nothing", "", unadapted=("dp_sgd",)),
        Finding("search: a", "nothing", ""),
    ]
    control = [Finding("layer by layer (R-GAP)", "leak", ""), Finding("search: a", "nothing", "")]
    weak = Report(target(dense()), Settings(), found, control, "", False, 1.0)
    assert weak.control_recovered
    assert weak.exit_code == 3
    assert "no account of dp_sgd" in weak.meaning()[0]
    assert replace(weak, control=[*control, Finding("chosen search: a", "leak", "")]).verdict == "nothing found"


def test_solvers_say_which_defenses_they_ignore():
    def unadapted(net: nn.Module, defense: Defense) -> list[tuple[str, ...]]:
        one = target(net, victims=1, defenses=(defense,))
        how = adaptation_of(one.client.defenses, one.updates[0])
        solved = [attempt(name, partial(solve, Judge(one, SHORT), how, bool)) for name, solve in solvers(one).items()]
        return [finding.unadapted for finding in solved]

    assert unadapted(dense(), privacy.gaussian_noise(0.01))[0] == ()  # the nearest image in the box
    assert unadapted(dense(), gradient.quantization(2))[0] == ("quantization",)
    assert unadapted(lenet(), privacy.gaussian_noise(0.01))[1] == ("gaussian_noise",)
    assert unadapted(lenet(), local_iterations(1))[1] == ()


def test_labels_that_a_rule_misreads_are_given_and_the_report_says_so():
    whole = target(lenet(), batch=4, victims=3)
    assert with_labels(whole)[1] == ()
    halves = target(lenet(), batch=4, victims=3, local=LocalTraining(2, batch_size=2))
    given, assumed = with_labels(halves)  # the rule counts labels, and which of them are in which step, it cannot say
    assert assumed == ("labels",)
    assert torch.equal(torch.cat(given), DIGITS.labels[:12])


def test_the_choice_does_not_see_the_truth():
    seen = target(lenet(), victims=2)
    blind = replace(
        seen, images=data.Dataset(DIGITS.images.flip(0), DIGITS.labels.flip(0), DIGITS.classes), sent=seen.updates
    )
    how = adaptation_of((), seen.updates[0])
    labels, assumed = with_labels(seen)
    assert not assumed
    plan = plans(seen, "C")[0]
    found = [Searches(one, labels, how, Settings()).run(plan, 10, 2) for one in (seen, blind)]
    assert found[0].distance == found[1].distance
    assert found[0].agreement == found[1].agreement
    assert torch.equal(torch.cat(found[0].images), torch.cat(found[1].images))


def test_the_better_agreement_wins_then_the_smaller_distance():
    plan = plans(target(lenet()), "C")[0]
    made = [Outcome(plan, [], 10, *pair, False) for pair in ((0.1, 0.5), (0.4, 0.98), (0.3, 0.95), (0.01, 0.2))]
    assert chosen(made) is made[2]


def test_agreement_is_that_of_shapes():
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert agreement(images, images.flip(0)) == pytest.approx(1.0)
    assert agreement(images, 0.5 * images + 0.3) == pytest.approx(1.0, abs=1e-6)
    assert agreement(torch.full_like(images, 0.2), torch.full_like(images, 0.2)) == 0.0


def test_luck_counts_blind_guesses():
    assert luck(0, 4, 240) == pytest.approx(1.0)
    assert luck(1, 4, 240) == pytest.approx(1 - (239 / 240) ** 4)
    assert luck(2, 4, 240) < 1e-3


def test_one_lucky_name_is_no_leak():
    judge = Judge(target(lenet(), victims=8), Settings())
    grey = torch.full((1, 1, 8, 8), 0.5)
    guesses = [grey] * 7
    finding = judge.images("one name", [judge.target.truth[:1] * 0.45 + 0.3, *guesses])
    assert sum(finding.numbers["named"]) <= 1
    assert finding.level == "nothing"


def test_fewer_images_than_the_batch_are_filled():
    judge = Judge(target(dense(), batch=3, victims=2), Settings())
    finding = judge.images("one of three", [judge.target.batches[0].images[:1], torch.empty(0, 1, 8, 8)])
    assert len(finding.numbers["psnr"]) == 6
    assert max(finding.numbers["psnr"]) == 200


DEFENSES = [
    gradient.pruning(0.9),
    gradient.top_k(0.1),
    gradient.quantization(2),
    gradient.sign_compression(),
    gradient.soteria(0.5),
    privacy.gaussian_noise(0.01),
    privacy.dp_sgd(1.0, 0.1),
    local_iterations(3),
    model.dropout(0.3),
    model.precode(4),
    model.secret_branch(64),
    obscuration.transformations(obscuration.Transformation("shift down", 0.125)),
]


@pytest.mark.parametrize("defense", DEFENSES, ids=lambda one: one.name)
def test_attacks_adapt_to_the_defenses_of_the_library(defense):
    assert defense.name in KNOWN
    one = target(lenet(), victims=1, defenses=(defense,))
    how = adaptation_of(one.client.defenses, one.updates[0])
    assert how.missing == ()
    outcome = Searches(one, with_labels(one)[0], how, Settings()).run(plans(one, "C")[0], 10, 1)
    assert torch.cat(outcome.images).isfinite().all()
    assert 0 <= outcome.distance < 2.1


class Own(Defense):
    """A reader's own defense, of which nothing is known."""


@pytest.mark.parametrize("defense", [Own(), obscuration.mixup(2, classes=10)], ids=lambda one: one.name)
def test_a_defense_that_nothing_is_adapted_to_is_named(defense):
    one = target(dense(), batch=4, victims=1, defenses=(defense,))
    assert adaptation_of(one.client.defenses, one.updates[0]).missing == (defense.name,)
    report = Report(one, Settings(), [Finding("check", "nothing", "")], [], "", False, 1.0)
    assert any(defense.name in sentence for sentence in report.meaning())


def test_adapting_to_pruning_finds_more():
    pruned = target(lenet(), victims=4, defenses=(gradient.pruning(0.9),))
    how = adaptation_of(pruned.client.defenses, pruned.updates[0])
    judge, medians = Judge(pruned, Settings()), []
    for adapted in (how, adaptation_of((), pruned.updates[0])):
        found = Searches(pruned, with_labels(pruned)[0], adapted, Settings()).run(plans(pruned, "C")[0], 100, 4)
        values = judge.images("search", found.images).numbers["psnr"]
        medians.append(float(torch.tensor(values).median()))
    assert medians[0] > medians[1] + 1


def test_the_control_has_no_defense_and_other_weights():
    trained = lenet()
    with torch.no_grad():
        for value in trained.parameters():
            value.mul_(3)
    control = target(trained, defenses=(gradient.pruning(0.9),)).control()
    assert control.client.defenses == ()
    pairs = zip(control.model.parameters(), trained.parameters(), strict=True)
    assert all(not torch.equal(new, old) for new, old in pairs)


def test_a_network_that_cannot_forget_says_what_to_do():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.last = nn.Parameter(torch.ones(1)), nn.Linear(64, 10)

        def forward(self, images):
            return self.last(images.flatten(1) * self.scale)

    with pytest.raises(ValueError, match=r"untrained\(\)"):
        untrained(Scaled())
    report = audit(replace(target(Scaled(), batch=4, victims=2), untrained=Scaled), SHORT)
    assert report.control or report.verdict == "images leak"


def test_ctrl_c_keeps_what_was_finished():
    seen = []

    def stop(share, text):
        seen.append(text)
        if text == "equations":
            raise KeyboardInterrupt

    report = audit(target(lenet()), SHORT, progress=stop)
    assert report.interrupted
    assert report.exit_code == 130
    assert list(findings(report)) == ["update", "labels", "features"]


@pytest.mark.parametrize(
    "options", [{"seconds": 0.0}, {"threat": "F"}, {"recovered": 0.0}, {"named": 1.5}, {"iterations": 3}]
)
def test_settings_out_of_range(options):
    with pytest.raises(ValueError, match="expected"):
        Settings(**options)


def test_too_few_images():
    with pytest.raises(ValueError, match="expected at least 1798 images"):
        Target(Client(dense()), DIGITS, batch=1, victims=1797)


def test_a_leak_by_names_alone_is_not_called_images_that_came_back():
    recovered = audit(target(dense()), Settings(iterations=4))
    told = audit(target(dense()), Settings(iterations=4, recovered=250.0))  # more than exact: nobody is recovered
    assert recovered.verdict == told.verdict == "images leak"
    assert recovered.meaning()[0].startswith("Images of the victims came back")
    assert told.meaning()[0].startswith("No image is clear enough to count as recovered, but 3 of 3 could be told")


def test_few_images_make_no_names():
    few = replace(target(dense(), victims=2), images=data.Dataset(DIGITS.images[:4], DIGITS.labels[:4], DIGITS.classes))
    assert not Judge(few, Settings()).names_count
    assert Judge(target(dense()), Settings()).names_count
    assert "names do not count" in " ".join(Report(few, Settings(), [], [], "", False, 1.0).meaning())


def test_a_solver_stops_in_time_and_says_so():
    judge = Judge(target(dense(), victims=3), Settings())
    finding = divide(judge, adaptation_of((), judge.target.updates[0]), lambda: True)
    assert len(finding.numbers["psnr"]) == 1
    assert "only 1 of 3 clients" in finding.text
    assert not judge.complete(finding)


def test_an_error_of_ours_is_no_refusal():
    def wrong():
        raise AttributeError("a mistake")

    def refuses():
        raise NoFiniteStartError("nothing to find")

    assert attempt("check", refuses).level == "no answer"
    with pytest.raises(AttributeError):
        attempt("check", wrong)
