"""A quick run of every script under bench: the numbers it prints make sense and have the shape of the stored ones."""

import json
import math
from pathlib import Path
from statistics import mean

import pytest

from bench import __main__ as speed_and_quality
from bench import cases, encryption, networks, peer, secure_aggregation, zoo
from bench.cases import BREACHING, BREACHING_SAME_TV
from bench.ways import LOOP, STACKS, ours

BENCH = Path(speed_and_quality.__file__).parent
WITH_PEER = {BREACHING} if peer.installed() else set()
WAYS = {*map(ours, STACKS), LOOP} | WITH_PEER


def stored(name: str) -> dict:
    return json.loads((BENCH / name).read_text())


def positive(numbers: dict[str, float]) -> bool:
    return all(0 < value < math.inf for value in numbers.values())


@pytest.fixture(scope="module", autouse=True)
def nothing_stored():
    before = {path: path.read_bytes() for path in BENCH.glob("*.json*")}
    yield
    assert {path: path.read_bytes() for path in BENCH.glob("*.json*")} == before


def test_every_script_has_a_quick_run_here():
    scripts = {path.stem for path in BENCH.glob("*.py") if "\ndef main(" in path.read_text()}
    assert scripts == {"__main__", "encryption", "networks", "secure_aggregation"}


@pytest.fixture(scope="module")
def quick_cases():
    return speed_and_quality.main(["--quick"])


def test_speeds_are_positive_and_ratios_belong_to_them(quick_cases):
    assert [case["network"] for case in quick_cases] == [case.name for case in cases.cases(quick=False)]
    for case in quick_cases:
        speeds = case["milliseconds"]
        assert speeds.keys() == {"one by one", "stack"} | WITH_PEER
        assert positive(speeds)
        for way, value in speeds.items():
            share = case["operations"] / (value / 1e3) / (1e9 * case["matrix product GFLOP/s"])
            assert case["share of the matrix product"][way] == pytest.approx(share)
            assert 0 < share < 1
        ratios = {way: speeds[BREACHING] / value for way, value in speeds.items()} if WITH_PEER else {}
        assert case["times faster than breaching"] == ratios


def test_our_recipes_recover_the_small_photographs(quick_cases):
    lenet, convnet = (case["psnr"]["ours"] for case in quick_cases)
    assert len(lenet) == len(convnet) == 2
    assert mean(lenet) > 25, lenet
    assert min(convnet) > 24, convnet


def test_the_weight_of_total_variation_explains_most_of_the_lead(breaching, quick_cases):
    lenet, convnet = (case["psnr"] for case in quick_cases)
    assert lenet.keys() == {"ours", BREACHING}
    assert convnet.keys() == {"ours", BREACHING, BREACHING_SAME_TV}
    lead = {who: mean(convnet["ours"]) - mean(convnet[who]) for who in (BREACHING, BREACHING_SAME_TV)}
    assert lead[BREACHING] > 7, lead
    assert lead[BREACHING_SAME_TV] < lead[BREACHING] / 2, lead


def test_a_full_run_stores_what_the_chapters_read(quick_cases):
    full = cases.cases(quick=False)
    for case, fresh, found in zip(full, quick_cases, stored("results.json")["cases"], strict=True):
        assert found.keys() == fresh.keys()
        assert found["network"] == case.name
        assert found["targets"] == case.targets
        assert found["milliseconds"].keys() == {"one by one", "stack", "compiled", BREACHING}
        assert found["psnr"].keys() == {"ours", *case.peer_quality}
        assert {len(values) for values in found["psnr"].values()} == {speed_and_quality.QUALITY_VICTIMS}


def test_a_case_below_a_target_or_below_the_peer_is_named(quick_cases):
    case = dict(quick_cases[1], targets={"stack": 1.3})
    case["times faster than breaching"] = {"stack": 1.2}
    case["psnr"] = {"ours": [30.0, 31.0], BREACHING: [20.0, 21.0], BREACHING_SAME_TV: [32.0, 33.0]}
    name = case["network"]
    assert speed_and_quality.missed(case) == [f"{name}: stack", f"{name}: PSNR against {BREACHING_SAME_TV}"]
    case["times faster than breaching"], case["psnr"]["ours"] = {"stack": 1.4}, [34.0, 35.0]
    assert speed_and_quality.missed(case) == []


def test_the_full_runs_refuse_to_store_without_the_peer(monkeypatch):
    monkeypatch.setattr(peer, "installed", lambda: False)
    for script in (speed_and_quality, networks):
        with pytest.raises(SystemExit):
            script.main([])


def test_a_card_that_is_not_there_is_said(monkeypatch, capsys):
    monkeypatch.setattr(networks.torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        networks.main(["--quick", "--device", "cuda"])
    assert "finds no card here" in capsys.readouterr().err


@pytest.fixture(scope="module")
def quick_rows():
    return networks.main(["--quick"])


def test_every_way_runs_and_takes_time_and_memory(quick_rows):
    assert [row["network"] for row in quick_rows] == list(networks.QUICK)
    for row in quick_rows:
        assert row["failed"] == {}
        assert row["milliseconds"].keys() == row["memory"].keys() == WAYS
        assert positive(row["milliseconds"])
        assert all(0 <= value < 500 for value in row["memory"].values()), row["memory"]
        assert row["passes"] in range(1, max(STACKS) + 1)
        for other in {LOOP} | WITH_PEER:
            assert row[f"times faster than {other}"] == networks.ratios(row["rounds"])[f"times faster than {other}"]
            assert row[f"times faster than {other}"].keys() == {*map(ours, STACKS)}
        assert {way: min(values) for way, values in row["rounds"].items()} == row["milliseconds"]


@pytest.mark.skipif(not networks.results("cpu").exists(), reason="python -m bench.networks has not stored its table")
def test_the_stored_table_has_every_network_and_way(quick_rows):
    rows = {row["network"]: row for row in stored("networks.json")["rows"]}
    assert list(rows) == list(zoo.networks())
    for row in rows.values():
        peers = {f"times faster than {BREACHING}"}
        assert row.keys() == quick_rows[0].keys() | peers
        assert row["milliseconds"].keys() == row["memory"].keys() == {*map(ours, STACKS), LOOP, BREACHING}
        assert row["parameters"] == sum(p.numel() for p in zoo.built(row["network"]).parameters())


def test_encryption_measures_each_scheme():
    found = encryption.main(["--quick"])
    names = [row["name"].removesuffix(", gmpy2") for row in found["rows"]]
    assert set(names) == {"Paillier 1024, unpacked", "Paillier 1024", "CKKS 4096"}
    reference = stored("encryption.json")
    assert found.keys() == reference.keys()
    for row in found["rows"]:
        assert row.keys() == reference["rows"][0].keys()
        assert positive({key: row[key] for key in row if key.endswith("seconds")})
        assert 0 < row["error"] <= found["step"] / 2 * 1.001
    sizes = dict(zip(names, found["rows"], strict=False))
    assert sizes["Paillier 1024, unpacked"]["blocks"] == found["numbers"] == 200
    assert sizes["Paillier 1024"]["bytes"] < sizes["Paillier 1024, unpacked"]["bytes"] / 30


def test_secure_aggregation_measures_each_protocol():
    found, reference = secure_aggregation.main(["--quick"]), stored("secure_aggregation.json")
    assert found.keys() == reference.keys()
    assert [(row["protocol"], row["members"]) for row in found["rows"]] == [("masking", 8), ("fast", 10), ("light", 8)]
    for row in found["rows"]:
        assert row.keys() == reference["rows"][0].keys()
        assert row["clients"] == 10
        assert row["bytes"] == secure_aggregation.predicted_bytes(row["protocol"], 10)
        assert positive({key: row[key] for key in row if key.endswith("seconds")})
        assert row["error"] <= 10 * found["step"]
