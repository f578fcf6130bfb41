"""Data sets that the reader downloads, read from small files of the same form that the tests make."""

import hashlib
import pickle
import struct

import pytest
import torch
import torchvision
from pictures import PIXELS

from gilib import data


def _register(monkeypatch, kind, folder, files):
    """Write the files of a CIFAR set and tell torchvision's own integrity check their checksums."""
    folder.mkdir(parents=True)
    sums = {}
    for name, content in files.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    meta = kind.meta["filename"]
    names = [name for name in files if name != meta]
    monkeypatch.setattr(kind, "train_list", [[name, sums[name]] for name in names if name != names[-1]])
    monkeypatch.setattr(kind, "test_list", [[names[-1], sums[names[-1]]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums[meta]})


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    flat = PIXELS.transpose(0, 3, 1, 2).reshape(6, -1)
    files = {
        "data_batch_1": {"data": flat[:2], "labels": [3, 0]},
        "data_batch_2": {"data": flat[2:4], "labels": [1, 2]},
        "test_batch": {"data": flat[4:], "labels": [0, 0]},
        "batches.meta": {"label_names": ["plane", "car", "bird", "cat"]},
    }
    _register(monkeypatch, torchvision.datasets.CIFAR10, tmp_path / "cifar-10-batches-py", files)
    return tmp_path


def test_cifar10_reads_the_training_batches(cifar10):
    dataset = data.load("cifar10", root=cifar10)
    assert torch.equal((dataset.images * 255).round().byte(), torch.tensor(PIXELS[:4]).permute(0, 3, 1, 2))
    assert dataset.labels.tolist() == [3, 0, 1, 2]
    assert dataset.classes == ("plane", "car", "bird", "cat")
    assert data.load("cifar10", root=str(cifar10), size=16).images.shape == (4, 3, 16, 16)
    with torch.device("meta"):
        assert torch.equal(data.load("cifar10", root=cifar10).images, dataset.images)


def test_cifar100_reads_the_fine_labels(tmp_path, monkeypatch):
    flat = PIXELS.transpose(0, 3, 1, 2).reshape(6, -1)
    files = {
        "train": {"data": flat[:4], "fine_labels": [1, 0, 2, 2], "coarse_labels": [0, 0, 0, 0]},
        "test": {"data": flat[4:], "fine_labels": [0, 0]},
        "meta": {"fine_label_names": ["apple", "bear", "crab"]},
    }
    _register(monkeypatch, torchvision.datasets.CIFAR100, tmp_path / "cifar-100-python", files)
    dataset = data.load("cifar100", root=tmp_path)
    assert dataset.labels.tolist() == [1, 0, 2, 2]
    assert dataset.classes == ("apple", "bear", "crab")


@pytest.fixture
def mnist(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, images in (("train", PIXELS[:4, :28, :28, 0]), ("t10k", PIXELS[4:, :28, :28, 0])):
        header = struct.pack(">IIII", 0x803, *images.shape)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = bytes(range(len(images)))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(labels)) + labels)
    return tmp_path


def test_mnist_reads_the_training_files(mnist):
    dataset = data.load("mnist", root=mnist)
    assert torch.equal((dataset.images * 255).round().byte()[:, 0], torch.tensor(PIXELS[:4, :28, :28, 0]))
    assert dataset.labels.tolist() == [0, 1, 2, 3]
    assert len(dataset.classes) == 10
    with torch.device("meta"):
        assert torch.equal(data.load("mnist", root=mnist).images, dataset.images)
    assert data.load("mnist", root=mnist, size=32).images.shape == (4, 1, 32, 32)


@pytest.mark.parametrize(
    "name, file", [("cifar10", "data_batch_1"), ("cifar100", "train"), ("mnist", "train-images-idx3-ubyte")]
)
def test_missing_files_say_where_and_how(tmp_path, name, file):
    with pytest.raises(FileNotFoundError, match=rf"{file} in .*{tmp_path.name}.*download=True"):
        data.load(name, root=tmp_path)


def test_one_missing_file_is_named(cifar10):
    (cifar10 / "cifar-10-batches-py" / "data_batch_2").unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_2"):
        data.load("cifar10", root=cifar10)


def test_a_damaged_cifar_file_is_a_clear_error(cifar10):
    path = cifar10 / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"CIFAR10 file in .* is damaged.*Delete the folder.*download=True"):
        data.load("cifar10", root=cifar10)


@pytest.mark.parametrize("keep", [0, 2, 10, 500])
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_a_damaged_mnist_file_is_a_clear_error(mnist, file, keep):
    path = mnist / "MNIST" / "raw" / file
    content = path.read_bytes()
    path.write_bytes(content[: min(keep, len(content) - 1)])
    with pytest.raises(ValueError, match=r"MNIST file in .* is damaged"):
        data.load("mnist", root=mnist)
