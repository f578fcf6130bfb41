"""Batches refuse what is none; data sets load, those that need a download from small files the tests make."""

import hashlib
import pickle
import struct

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from gilib import data


@pytest.fixture(scope="module")
def photos():
    return data.load("photos")


# --- Batch and Dataset ---


@settings(max_examples=25, deadline=None)
@given(
    pixels=hnp.arrays(np.float64, hnp.array_shapes(min_dims=4, max_dims=4, max_side=4), elements=st.floats(0, 1)),
    label=st.integers(0, 9),
)
def test_a_batch_keeps_what_it_is_given(pixels, label):
    images, labels = torch.tensor(pixels), torch.full((len(pixels),), label)
    batch = data.Batch(images, labels)
    assert batch.images is images
    assert batch.labels is labels
    assert len(batch) == len(pixels)


IMAGES, LABELS = torch.rand(2, 3, 4, 4), torch.tensor([1, 0])
BAD_BATCHES = [
    (IMAGES + 1, LABELS, r"\[0, 1\], got values from 1.* to .*255"),
    (IMAGES - 1, LABELS, r"\[0, 1\].*clamp"),
    (IMAGES * torch.nan, LABELS, "NaN"),
    (IMAGES / 0, LABELS, "infinity"),
    (IMAGES[0], LABELS, r"\(B, C, H, W\).*got \(3, 4, 4\).*images\[None\]"),
    (IMAGES[:0], LABELS[:0], r"at least one image, got \(0, 3, 4, 4\)"),
    (IMAGES[..., :0], LABELS, r"got \(2, 3, 4, 0\)"),
    ((255 * IMAGES).byte(), LABELS, "uint8.*255"),
    (IMAGES.numpy(), LABELS, "ndarray"),
    (IMAGES, LABELS[:1], r"each of 2 images.*got \(1,\)"),
    (IMAGES, LABELS[:, None], r"got \(2, 1\)"),
    (IMAGES, LABELS.int(), r"int64.*int32.*dtype=torch.int64"),
    (IMAGES, [1, 0], "int64.*list"),
    (IMAGES, LABELS - 1, "from 0, got -1 to 0"),
]


@pytest.mark.parametrize("images, labels, message", BAD_BATCHES)
def test_bad_batches_are_refused_at_the_door(images, labels, message):
    with pytest.raises(ValueError, match=message):
        data.Batch(images, labels)
    with pytest.raises(ValueError, match=message.replace("from 0, got", "from 0 to 1, got")):
        data.Dataset(images, labels, ("a", "b"))


def test_a_dataset_refuses_labels_without_a_class():
    with pytest.raises(ValueError, match="from 0 to 1, got 0 to 2"):
        data.Dataset(IMAGES, torch.tensor([0, 2]), ("a", "b"))


def test_batch_and_dataset_cannot_be_changed():
    batch = data.Batch(IMAGES, LABELS)
    with pytest.raises(AttributeError):
        batch.images = IMAGES


def test_dataset_batch_picks_images_and_copies_them(photos):
    for indices in ([3, 0], (3, 0), torch.tensor([3, 0]), np.array([3, 0])):
        batch = photos.batch(indices)
        assert torch.equal(batch.images, photos.images[[3, 0]])
        assert batch.labels.tolist() == [3, 0]
    assert torch.equal(photos.batch(range(2)).images, photos.images[:2])
    assert photos.batch(5).images.shape == (1, 3, 32, 32)
    assert torch.equal(photos.batch(-1).images, photos.images[-1:])
    before = photos.images[0].clone()
    photos.batch([0]).images.zero_()
    assert torch.equal(photos.images[0], before)


@pytest.mark.parametrize("indices", [[240], [-241], [0, 999]])
def test_an_index_outside_says_the_range(photos, indices):
    with pytest.raises(IndexError, match="0 to 239"):
        photos.batch(indices)


@pytest.mark.parametrize("indices", [[], [0.5], [True, False], [[0, 1]]])
def test_odd_indices_are_refused(photos, indices):
    with pytest.raises(ValueError, match="whole numbers"):
        photos.batch(indices)


# --- What comes with the packages ---


def test_photos_show_ten_photographs_in_turn(photos):
    assert len(photos) == 240
    assert len(photos.classes) == len(set(photos.classes)) == 10
    assert photos.labels.tolist() == list(range(10)) * 24
    assert photos.images.shape == (240, 3, 32, 32)
    assert photos.images.dtype == torch.float32


def test_photos_are_these_pixels_on_every_machine(photos):
    pixels = (photos.images * 255).round().to(torch.uint8)
    assert torch.equal(pixels.float() / 255, photos.images)
    assert hashlib.sha256(pixels.numpy().tobytes()).hexdigest()[:16] == "f2c203a0f1b9daf2"


def test_photos_are_all_different_and_none_is_nearly_uniform(photos):
    assert len(torch.unique(photos.images.flatten(1), dim=0)) == len(photos)
    assert photos.images.flatten(1).std(1).min() > 0.05


@pytest.mark.parametrize("size", [8, 64])
def test_photos_come_in_any_size_with_the_same_content(photos, size):
    other = data.load("photos", size=size)
    assert other.images.shape == (240, 3, size, size)
    assert torch.equal(other.labels, photos.labels)
    small, large = (other.images, photos.images) if size < 32 else (photos.images, other.images)
    shrunk = torch.nn.functional.adaptive_avg_pool2d(large, small.shape[-1])
    assert (shrunk - small).abs().mean() < 0.02


def test_nothing_is_downloaded_and_the_global_state_stays(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a data set that ships with the packages opened a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not move
    for name in ("photos", "digits", "faces"):
        first, second = data.load(name), data.load(name)
        assert torch.equal(first.images, second.images)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_digits_are_sixteenths():
    digits = data.load("digits")
    assert digits.images.shape == (1797, 1, 8, 8)
    assert torch.equal((digits.images * 16).round() / 16, digits.images)
    assert digits.images.max() == 1
    assert digits.classes == tuple("0123456789")
    assert digits.labels[:10].tolist() == list(range(10))


def test_faces_come_first():
    faces = data.load("faces")
    assert faces.images.shape == (200, 1, 25, 25)
    assert faces.labels.tolist() == [0] * 100 + [1] * 100
    assert faces.classes == ("face", "not a face")
    # Faces look alike: their mean explains more of them than the mean of the other patches explains of those.
    spread = [group.var(0).mean() for group in (faces.images[:100], faces.images[100:])]
    assert spread[0] < 0.8 * spread[1]


@settings(max_examples=8, deadline=None)
@given(size=st.integers(4, 40))
def test_resized_digits_stay_in_range_and_keep_their_brightness(size):
    original, resized = data.load("digits"), data.load("digits", size=size)
    assert resized.images.shape[-2:] == (size, size)
    assert (resized.images.mean() - original.images.mean()).abs() < 0.02
    levels = 16 if size == 8 else 255
    assert (resized.images * levels - (resized.images * levels).round()).abs().max() < 1e-4


# --- What the reader provides ---

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)


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


def _save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_a_folder_with_subfolders_has_their_names_as_classes(tmp_path):
    _save(tmp_path / "dog" / "a.png", PIXELS[0])
    _save(tmp_path / "cat" / "b.png", PIXELS[1])
    _save(tmp_path / "cat" / "c.png", PIXELS[2, :, :, 0])
    dataset = data.load(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [0, 0, 1]
    assert torch.equal((dataset.images[2] * 255).round().byte(), torch.tensor(PIXELS[0]).permute(2, 0, 1))
    assert torch.equal(dataset.images[1, 0], dataset.images[1, 2])  # the grey image became a colour image


def test_a_flat_folder_is_one_class_cut_to_the_centre(tmp_path):
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    wide[:, 20:40] = 200
    _save(tmp_path / "pets" / "wide.png", wide)
    (tmp_path / "pets" / "notes.txt").write_text("not an image")
    dataset = data.load(str(tmp_path / "pets"), size=10)
    assert dataset.classes == ("pets",)
    assert (dataset.images * 255).round().unique().tolist() == [200.0]


def test_a_photograph_taken_sideways_is_turned(tmp_path):
    upright = np.zeros((8, 8, 3), dtype=np.uint8)
    upright[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees to show
    Image.fromarray(np.rot90(upright).copy()).save(tmp_path / "a.png", exif=exif)
    image = data.load(tmp_path).images[0, 0]
    assert image[:4].min() == 1
    assert image[4:].max() == 0


def test_images_of_several_sizes_need_a_size(tmp_path):
    _save(tmp_path / "a.png", PIXELS[0])
    _save(tmp_path / "b.png", PIXELS[1, :10])
    with pytest.raises(ValueError, match=r"32 x 10, 32 x 32.*size=32"):
        data.load(tmp_path)
    assert data.load(tmp_path, size=12).images.shape == (2, 3, 12, 12)


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_damaged_image_is_named(tmp_path, ending):
    _save(tmp_path / f"good.{ending}", PIXELS[0])
    content = (tmp_path / f"good.{ending}").read_bytes()
    (tmp_path / f"bad.{ending}").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"bad\.{ending} is not a readable image.*remove it"):
        data.load(tmp_path)


def test_an_empty_folder_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found none.*PNG"):
        data.load(tmp_path)


@pytest.mark.parametrize("name", ["photo", "CIFAR10", ""])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(ValueError, match='"photos", "digits", "faces", "cifar10", "cifar100", "mnist"'):
        data.load(name)


def test_a_path_that_is_not_there_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder of images"):
        data.load(tmp_path / "nowhere")


@pytest.mark.parametrize("size", [0, -3, 1.5, "32"])
def test_a_bad_size_is_refused(size):
    with pytest.raises(ValueError, match="size as a whole number"):
        data.load("photos", size=size)
