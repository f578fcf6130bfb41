"""The command of the audit: files in, exit codes out, and no half-written reports."""

import json
import re
import sys
from importlib.metadata import entry_points

import pytest
import torch
from PIL import Image

from gilib import data, models
from gilib.audit import Report, Settings, load_target
from gilib.audit.command import main, written
from gilib.audit.page import page
from gilib.audit.received import received
from gilib.audit.run import audit
from gilib.federated import Client

DIGITS = data.load("digits")
DENSE = """
from gilib import models

def model():
    return models.mlp(channels=1, size=8, hidden=(32,))
"""


@pytest.fixture
def dense(tmp_path):
    path = tmp_path / "target.py"
    path.write_text(DENSE, encoding="utf-8")
    return path


def run(path, folder, *more: str) -> int:
    return main(["audit", str(path), "--images", "digits", "--iterations", "16", "--out", str(folder), *more])


def test_a_leak_is_reported_and_has_its_code(dense, tmp_path, capsys):
    assert run(dense, tmp_path / "out") == 2
    said = capsys.readouterr()
    assert "Verdict: images leak." in said.out
    assert "first layer by division" in said.out
    report = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))
    assert report["schema"] == "gilib-audit/1"
    assert report["exit_code"] == 2
    assert {"verdict", "meaning", "settings", "client", "findings", "control", "versions"} <= report.keys()
    assert {one["level"] for one in report["findings"]} <= {"leak", "partial", "nothing", "no answer", "note"}


def test_the_page_needs_nothing_else(dense, tmp_path):
    report = audit(load_target(dense, DIGITS, victims=2), Settings(iterations=16))
    text = page(report)
    assert not re.search(r"https?:|<script|<link|url\(", text)
    assert "prefers-color-scheme: dark" in text
    pictures = re.findall(r"<img ([^>]*)>", text)
    assert pictures
    assert all('alt="Two pictures' in one and "data:image/png;base64," in one for one in pictures)
    assert "&lt;" not in text.split("<h2>")[0]


def test_what_a_reader_writes_is_escaped(dense, tmp_path):
    target = load_target(dense, DIGITS, victims=2)
    report = Report(target, Settings(), audit(target, Settings(iterations=16)).findings, [], "<b>mine</b>", False, 1.0)
    assert "<b>mine</b>" not in page(report)
    assert "&lt;b&gt;mine" in page(report)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model = 3\n", r"has no function model\(\)"),
        ("def model():\n    return 3\n", r"expected model\(\) to return a Module, got a int"),
        ("def model():\n    raise RuntimeError('no weights here')\n", r"RuntimeError: no weights here \(line 2\)"),
        ("def model(:\n", "does not run: SyntaxError"),
        ("import nothing_of_this_name\n", "ModuleNotFoundError"),
        (DENSE + "\ndef client(model):\n    return model\n", r"expected client\(\) to return a Client"),
        (DENSE.replace("size=8", "size=16"), "8 x 8|does not take images|64"),
    ],
)
def test_a_wrong_target_is_a_sentence_and_leaves_nothing(text, says, tmp_path, capsys):
    path = tmp_path / "target.py"
    path.write_text(text, encoding="utf-8")
    assert run(path, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert re.search(says, said), said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--victims", "5000"], "expected at least 5001 images"),
        (["--iterations", "2"], "at least four iterations"),
        (["--public", "digits"], "--threat D or E"),
        (["--images", "none.pt"], "there is no file none.pt"),
        (["--before", "a.pt"], "belong together"),
        (["--before", "a.pt", "--after", "b.pt"], "there is no file a.pt"),
        (["--images", "no/such/folder"], "no/such/folder"),
    ],
)
def test_wrong_options_are_a_sentence(dense, tmp_path, capsys, more, says):
    assert run(dense, tmp_path / "out", *more) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_ones_own_images(dense, tmp_path):
    for place in range(12):
        folder = tmp_path / "people" / f"class {place % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = (255 * DIGITS.images[place, 0]).round().byte().numpy()
        Image.fromarray(pixels).resize((16, 16)).save(folder / f"{place}.png")
    assert run(dense, tmp_path / "out", "--images", str(tmp_path / "people"), "--size", "8", "--grey") == 2
    report = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))
    assert report["candidates"] == 12


def test_what_a_real_client_sent(dense, tmp_path):
    model = models.mlp(channels=1, size=8, hidden=(32,))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = DIGITS.batch([0])
    torch.nn.functional.cross_entropy(model(batch.images), batch.labels).backward()
    optimizer.step()
    torch.save(before, tmp_path / "a.pt")
    torch.save(model.state_dict(), tmp_path / "b.pt")
    assert run(dense, tmp_path / "out", "--before", str(tmp_path / "a.pt"), "--after", str(tmp_path / "b.pt")) == 2
    report = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))
    [division] = [one for one in report["findings"] if one["check"] == "first layer by division"]
    assert division["numbers"]["psnr"][0] > 60


def test_files_that_hold_no_weights(dense, tmp_path):
    target = load_target(dense, DIGITS, victims=1)
    (tmp_path / "a.pt").write_text("not a file of weights", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no tensors"):
        received(target, tmp_path / "a.pt", tmp_path / "a.pt")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "b.pt")
    with pytest.raises(ValueError, match="another model"):
        received(target, tmp_path / "b.pt", tmp_path / "b.pt")


def test_a_report_is_written_whole_or_not_at_all(dense, tmp_path, monkeypatch):
    target = load_target(dense, DIGITS, victims=1)
    report = Report(target, Settings(), [], [], "", False, 1.0)
    written(report, tmp_path / "out")
    before = (tmp_path / "out" / "audit.json").read_text(encoding="utf-8")
    monkeypatch.setattr("gilib.audit.command.page", lambda report: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        written(report, tmp_path / "out")
    assert (tmp_path / "out" / "audit.json").read_text(encoding="utf-8") == before


def test_the_console_script_is_the_audit(capsys):
    [script] = [one for one in entry_points(group="console_scripts") if one.name == "gilib"]
    assert script.load() is main
    with pytest.raises(SystemExit, match="0"):
        main(["audit", "--help"])
    assert "3 no answer" in " ".join(capsys.readouterr().out.split())


def test_labels_are_not_given(tmp_path):
    path = tmp_path / "target.py"
    path.write_text(
        DENSE + "\nfrom gilib.federated import Client\n\ndef client(model):\n"
        "    return Client(model, share_labels=True)\n",
        encoding="utf-8",
    )
    target = load_target(path, DIGITS)
    assert isinstance(target.client, Client)
    assert target.updates[0].labels is None


def test_a_target_finds_what_lies_beside_it(tmp_path):
    beside = "from torch import nn\n\nNET = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
    (tmp_path / "lying_beside.py").write_text(beside)
    (tmp_path / "target.py").write_text("from lying_beside import NET\n\n\ndef model():\n    return NET\n")
    before = list(sys.path)
    found = load_target(tmp_path / "target.py", data.load("digits", size=8))
    assert found.client.model[1].out_features == 10
    assert sys.path == before
