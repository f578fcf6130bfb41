"""The instruments: clocks, counters of operations and of memory, processes of their own, and the networks measured."""

import os
import time

import pytest
import torch

from bench import cases, measure, memory, networks, ways, zoo
from bench.clock import device_clock, milliseconds
from bench.isolated import FailedError, here, isolated
from bench.ways import LOOP, ours

PARAMETERS = {
    "GroupNorm SiLU CNN": 10_430,
    "LeNet": 15_826,
    "GRU over rows": 21_514,
    "LSTM over rows": 28_522,
    "ResNet-20 width 8": 68_786,
    "ConvNet": 212_106,
    "ViT": 236_362,
    "ShuffleNet V2 x0.5": 352_042,
    "ConvNet x2": 682_250,
    "MLP 256": 789_258,
    "MLP 1024": 3_157_002,
    "EfficientNet-B0": 4_020_358,
    "DenseNet-121": 6_964_106,
    "ResNet-18": 11_181_642,
    "ResNet-18, CIFAR form": 11_173_962,
    "ConvNeXt-T": 27_827_818,
}


def test_the_best_window_counts():
    ended = [0.0, 1.0, 1.5, 2.0, 2.25, 4.0]
    assert milliseconds(ended, window=1) == 250.0
    assert milliseconds(ended, window=3) == pytest.approx(1250 / 3)
    assert milliseconds(ended, window=5) == 800.0
    with pytest.raises(ValueError, match="a window of 6 iterations needs 7 times; got 6"):
        milliseconds(ended, window=6)


def test_first_iterations_are_left_out():
    slow_start = [100.0, 200.0, 200.0, 201.0, 202.0, 203.0, 204.0]
    assert ways.best(slow_start) == 1000.0


def test_processor_time_does_not_count_sleep():
    clock = device_clock("cpu")
    start = clock()
    time.sleep(0.2)
    assert clock() - start < 0.1


@pytest.mark.parametrize("which, expected", [(0, 9_987_072), (1, 326_664_192)], ids=["LeNet", "ConvNet"])
def test_operations_of_an_iteration(which, expected):
    case = cases.cases(quick=False)[which]
    batches, updates = cases.victims(case.model, 1)
    assert measure.operations(case, batches[0], updates[0]) == expected


def test_operations_of_a_linear_model_by_hand():
    """Five products of 10 x 3072: the logits, the weights' gradient, and backward once through one, twice the other."""
    case = cases.lenet(300, size=32)
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
    batches, updates = cases.victims(linear, 1)
    case = type(case)(**{**vars(case), "model": linear})
    assert measure.operations(case, batches[0], updates[0]) == 2 * 3072 * 10 * 5


def test_memory_beyond_the_start_is_the_peak_of_the_run():
    held = torch.ones(2**24)  # 64 MB that are there before

    def run():
        torch.ones(2**25).sum()  # 128 MB, given back

    assert 120 < memory.extra_megabytes(run) < 140
    assert memory.extra_megabytes(lambda: None) < 20
    assert held.sum() == 2**24


def test_another_process_answers_fails_dies_or_is_stopped():
    assert isolated(os.path.join, "a", "b") == os.path.join("a", "b")
    assert isolated(os.getpid) != os.getpid()
    with pytest.raises(FailedError, match=r"FileNotFoundError: .*nowhere"):
        isolated(os.stat, "/nowhere")
    with pytest.raises(FailedError, match="died with exit code 3"):
        isolated(os._exit, 3)
    with pytest.raises(FailedError, match="not done in 1 processor seconds"):
        isolated(sum, range(10**12), seconds=1)


def test_this_process_fails_in_the_same_words():
    assert here(os.getpid) == os.getpid()
    with pytest.raises(FailedError, match=r"FileNotFoundError: .*nowhere"):
        here(os.stat, "/nowhere")


@pytest.mark.parametrize("name", PARAMETERS)
def test_networks_are_those_of_the_table(name):
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        model = zoo.built(name)
        assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]
    with torch.no_grad():
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_the_table_has_no_other_networks():
    assert list(zoo.networks()) == list(PARAMETERS)


def row(**changes):
    speeds = {ours(1): 10.0, ours(4): 5.0, LOOP: 10.0, "breaching": 11.0}
    found = {
        "network": "LeNet",
        "parameters": 15_826,
        "milliseconds": speeds,
        "rounds": {way: [speed, 2 * speed, speed / 3] for way, speed in speeds.items()},
        "passes": 1,
        "failed": {},
        "memory": {ours(1): 10.0, ours(4): 40.0, LOOP: 10.0, "breaching": 12.0},
        "compiled": {ours(4): {"milliseconds": 2.0, "compile seconds": 11.0}},
    }
    found |= changes
    return found | networks.ratios({way: [speed] for way, speed in found["milliseconds"].items()})


def test_rows_within_the_targets_and_rows_that_miss_them():
    assert networks.missed(row()) == []
    slow = row(milliseconds={ours(1): 10.6, ours(4): 10.4, LOOP: 10.0, "breaching": 10.5})
    assert networks.missed(slow) == [
        "LeNet: ours, stack of 1 0.94 of loop",
        "LeNet: ours, stack of 1 0.99 of breaching",
    ]
    broken = row(milliseconds={ours(1): 10.0, LOOP: 10.0}, failed={ours(4): "RuntimeError: no"})
    assert networks.missed(broken) == ["LeNet: ours, stack of 4 fails"]


def test_memory_is_held_to_the_loop_where_the_library_loops():
    memory = {ours(1): 100.0, ours(4): 200.0, LOOP: 100.0}
    assert networks.missed(row(memory=memory)) == []
    assert networks.missed(row(memory=memory, passes=4)) == ["LeNet: ours, stack of 4 200 MB, loop 100"]


def test_a_line_shows_every_number():
    expected = "LeNet 15,826 10.00 5.00 10.00 11.00 mapped x4 2.00 (11) 10 40 10 12"
    assert " ".join(networks.line(row()).split()) == expected


def test_a_network_that_fails_is_reported_and_the_rest_goes_on(monkeypatch):
    """Without a number of ours the row says why, and that the target is missed."""
    original = ways.times

    def times(way, *arguments, **options):
        if way == ours(4):
            raise RuntimeError("no rule for this layer\nand a long explanation")
        return original(way, *arguments, **options)

    monkeypatch.setattr(ways, "times", times)
    settings = networks.Settings(rounds=1, seconds=0.0, compiled=False, call=here)
    found = networks.measured("LeNet", settings)
    assert found["failed"] == {ours(4): "RuntimeError: no rule for this layer"}
    assert found["passes"] is None
    assert "LeNet: ours, stack of 4 fails" in networks.missed(found)
    assert "no rule" not in networks.line(found)


@pytest.mark.parametrize("passes, stack", [(1, 4), (2, 4), (4, 1), (None, 1)])
def test_one_stack_is_compiled_that_of_one_victim_where_the_library_loops(passes, stack):
    asked = []

    def call(function, *arguments, **options):
        if function is ways.timing:
            return {"milliseconds": {LOOP: 1.0}, "rounds": {LOOP: [1.0]}, "passes": passes, "failed": {}}
        asked.append((function.__name__, *arguments, options))
        raise FailedError("not done in 7 processor seconds")

    found = networks.measured("LeNet", networks.Settings(limit=7, call=call, apart=call))
    assert asked == [("memory", "LeNet", "cpu", LOOP, {}), ("compiled", "LeNet", "cpu", stack, {"seconds": 7})]
    assert found["failed"][f"compiled: {ours(stack)}"] == "not done in 7 processor seconds"


def test_new_rows_replace_stored_ones_in_the_order_of_the_table(monkeypatch, tmp_path):
    monkeypatch.setattr(networks, "results", lambda device: tmp_path / "networks.json")
    networks.store([row(network="ConvNet", passes=4), row(network="LeNet")], networks.Settings())
    networks.store([row(network="LeNet", passes=4)], networks.Settings())
    rows = networks.json.loads((tmp_path / "networks.json").read_text())["rows"]
    assert [(one["network"], one["passes"]) for one in rows] == [("LeNet", 4), ("ConvNet", 4)]


def test_ratios_are_taken_within_a_round():
    # The machine is three times slower in the second round: the best of all rounds would say 30 / 12.
    rounds = {ours(1): [30.0, 90.0, 12.0], ours(4): [15.0, 45.0, 6.0], LOOP: [30.0, 90.0, 36.0]}
    assert networks.ratios(rounds) == {f"times faster than {LOOP}": {ours(1): 1.0, ours(4): 2.0}}


def test_a_way_that_fails_in_a_later_round_keeps_its_earlier_ones():
    rounds = {ours(1): [10.0], ours(4): [5.0, 15.0, 5.0], LOOP: [10.0, 30.0, 10.0]}
    assert networks.ratios(rounds) == {f"times faster than {LOOP}": {ours(1): 1.0, ours(4): 2.0}}
