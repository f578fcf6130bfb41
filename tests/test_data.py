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
    (IMAGES[:0, :0], LABELS[:0], r"got \(0, 0, 4, 4\)"),
    (IMAGES.to("meta"), LABELS, "meta device"),
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


def test_a_batch_may_hold_nobody_and_a_dataset_may_not():
    for labels in (LABELS[:0], torch.zeros(0, 7)):
        nobody = data.Batch(IMAGES[:0], labels)
        assert len(nobody) == 0
        assert nobody.images.shape == (0, 3, 4, 4)
    with pytest.raises(ValueError, match=r"each of 0 images.*got \(2,\)"):
        data.Batch(IMAGES[:0], LABELS)
    with pytest.raises(ValueError, match=r"at least one image, got \(0, 3, 4, 4\)"):
        data.Dataset(IMAGES[:0], LABELS[:0], ("a", "b"))


@pytest.mark.parametrize(
    "targets",
    [[[0.3, 0.7], [1.0, 0.0]], [[1.0, 1.0], [0.0, 0.0]], [[0.37], [-120.5]]],
    ids=["mixed", "several", "real"],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_targets_are_any_finite_numbers_one_row_an_image(targets, dtype):
    labels = torch.tensor(targets, dtype=dtype)
    assert data.Batch(IMAGES, labels).labels is labels
    for wrong, message in (
        (labels[:1], r"\(2, K\).*got \(1,"),
        (labels[:, :0], r"got \(2, 0\)"),
        (labels / 0, "finite targets"),
        (labels.long(), r"got \(2, \d\).*floating point"),
        (labels[:, 0], r"int64 tensor.*targets\[:, None\]"),
    ):
        with pytest.raises(ValueError, match=message):
            data.Batch(IMAGES, wrong)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_probabilities_sum_to_one_within_their_own_rounding(dtype):
    thirds = torch.full((2, 3), 1 / 3, dtype=torch.float64)
    data.check_probabilities(thirds.to(dtype))
    data.check_probabilities(thirds[:0].to(dtype))
    for wrong in (thirds * 1.05, thirds * 0.95, torch.tensor([[1.5, -0.5]]), thirds * torch.nan):
        with pytest.raises(ValueError, match=r"sum to one, got sums.*cross-entropy"):
            data.check_probabilities(wrong.to(dtype))


def test_another_default_device_changes_nothing():
    expected = {name: data.load(name, size=8) for name in ("photos", "digits", "faces")}
    with torch.device("meta"):
        for name, dataset in expected.items():
            found = data.load(name, size=8)
            assert torch.equal(found.images, dataset.images)
            assert torch.equal(found.labels, dataset.labels)
            assert torch.equal(found.batch([3, 1]).images, dataset.images[[3, 1]])
        data.Batch(IMAGES, LABELS)
        data.check_probabilities(expected["digits"].images.flatten(1).softmax(dim=1))


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
    assert len(photos.batch(torch.arange(0))) == 0
    before = photos.images[0].clone()
    photos.batch([0]).images.zero_()
    assert torch.equal(photos.images[0], before)


@pytest.mark.parametrize("indices", [[240], [-241], [0, 999]])
def test_an_index_outside_says_the_range(photos, indices):
    with pytest.raises(IndexError, match="0 to 239"):
        photos.batch(indices)


@pytest.mark.parametrize("indices", [[], [0.5], [True, False], [[0, 1]], [[0], [1, 2]], "a", None])
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


def test_a_link_back_into_a_class_reads_no_image_twice(tmp_path):
    _save(tmp_path / "cat" / "a.png", PIXELS[0])
    _save(tmp_path / "cat" / "more" / "b.png", PIXELS[1])
    _save(tmp_path / "dog" / "c.png", PIXELS[2])
    (tmp_path / "cat" / "more" / "up").symlink_to(tmp_path / "cat")
    (tmp_path / "dog" / "all").symlink_to(tmp_path)
    dataset = data.load(tmp_path)
    assert dataset.labels.tolist() == [0, 0, 1]
    assert dataset.classes == ("cat", "dog")


RAMP = np.tile(np.linspace(0, 65535, 16).round().astype(np.uint16), (16, 1))


def _grey(path):
    """The one image of a folder, which must be grey: (H, W), float64."""
    image = data.load(path).images[0].double()
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])
    return image[0]


@pytest.mark.parametrize("kind", ["png", "little tif", "big tif", "pgm", "white is zero"])
def test_grey_of_sixteen_bits_keeps_all_of_them(tmp_path, kind):
    if kind == "png":
        Image.fromarray(RAMP).save(tmp_path / "a.png")
    elif kind == "little tif":
        Image.fromarray(RAMP).save(tmp_path / "a.tif")
    elif kind == "big tif":
        Image.frombytes("I;16B", (16, 16), RAMP.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    elif kind == "white is zero":
        Image.fromarray(65535 - RAMP).save(tmp_path / "a.tif", tiffinfo={262: 0})
    else:
        (tmp_path / "a.pgm").write_bytes(b"P5 16 16 65535\n" + RAMP.astype(">u2").tobytes())
    torch.testing.assert_close(_grey(tmp_path), torch.tensor(RAMP.astype(np.float64) / 65535), rtol=0, atol=1e-7)
    small = data.load(tmp_path, size=8).images[0, 0, 4]
    assert small.diff().min() > 0.05  # still a ramp from dark to bright
    assert small[0] < 0.1 < 0.9 < small[-1]


def test_real_numbers_from_zero_to_one_are_read_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    assert torch.equal(_grey(tmp_path), torch.tensor(pixels).double())


@pytest.mark.parametrize(
    "image, message",
    [
        (Image.fromarray(np.full((4, 4), 255, np.float32)), r"255 to 255 of mode 'F': expected 0 to 1.*Scale"),
        (Image.fromarray(np.full((4, 4), np.nan, np.float32)), "nan to nan of mode 'F'"),
        (Image.fromarray(np.full((4, 4), 200, np.int32)), r"mode 'I'.*not known what is white.*Save it"),
        (Image.new("LAB", (4, 4)), r"mode 'LAB'.*Save it as RGB"),
    ],
    ids=["large", "nan", "whole", "lab"],
)
def test_pixels_of_another_range_are_refused_by_name(tmp_path, image, message):
    image.save(tmp_path / "scan.tif")
    with pytest.raises(ValueError, match=rf"scan\.tif .*{message}"):
        data.load(tmp_path)


def test_printing_colours_become_the_colours_of_a_screen(tmp_path):
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "cyan.tif")
    assert data.load(tmp_path).images[0, :, 0, 0].tolist() == [0, 1, 1]


def _half_hidden(mode):
    """A picture whose left half is wholly transparent, with red or a grey behind it, and how to save it."""
    seen, options = Image.new("RGBA", (8, 8), (200, 100, 0, 255)), {}
    if mode == "RGBA":
        seen.paste((255, 0, 0, 0), (0, 0, 4, 8))
    elif mode == "LA":
        seen = Image.new("LA", (8, 8), (100, 255))
        seen.paste((50, 0), (0, 0, 4, 8))
    elif mode == "P":
        seen = Image.new("P", (8, 8), 1)
        seen.putpalette([255, 0, 0, 200, 100, 0])
        seen.paste(0, (0, 0, 4, 8))
        options = {"transparency": 0}
    elif mode == "RGB":
        seen = Image.new("RGB", (8, 8), (200, 100, 0))
        seen.paste((255, 0, 0), (0, 0, 4, 8))
        options = {"transparency": (255, 0, 0)}
    else:
        pixels = np.full((8, 8), 100 * 257, np.uint16)
        pixels[:, :4] = 300
        seen, options = Image.fromarray(pixels), {"transparency": 300}
    return seen, options


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "I;16"])
def test_what_is_transparent_shows_white(tmp_path, mode):
    seen, options = _half_hidden(mode)
    seen.save(tmp_path / "a.png", **options)
    image = data.load(tmp_path).images[0]
    assert image[:, :, :4].unique().tolist() == [1.0]
    opaque = [100, 100, 100] if mode in ("LA", "I;16") else [200, 100, 0]
    torch.testing.assert_close(image[:, :, 4:], torch.tensor(opaque)[:, None, None].expand(3, 8, 4) / 255)


def test_half_transparent_lies_on_white_and_opaque_stays_bit_by_bit(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 51)).save(tmp_path / "a.png")
    assert (data.load(tmp_path).images * 255).round().unique().tolist() == [204.0]
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    opaque = np.stack([levels, levels[::-1], levels.T, np.full_like(levels, 255)], axis=-1)
    _save(tmp_path / "opaque" / "a.png", opaque)
    found = (data.load(tmp_path / "opaque").images[0] * 255).round().byte()
    assert torch.equal(found, torch.tensor(opaque[..., :3].copy()).permute(2, 0, 1))


@pytest.mark.parametrize("ending", ["png", "gif", "tif", "webp"])
def test_of_several_frames_the_first_is_read(tmp_path, ending):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    torch.testing.assert_close(
        data.load(tmp_path).images.mean(dim=(0, 2, 3)), torch.tensor([1.0, 0, 0]), atol=0.01, rtol=0
    )


@pytest.mark.parametrize("limit", [1000, 3000])  # Pillow raises above twice its limit, and warns above it
def test_a_huge_picture_is_named_with_what_to_do(tmp_path, monkeypatch, limit):
    _save(tmp_path / "slide.png", np.zeros((64, 64, 3), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=r"slide\.png is too large.*4096 pixels.*MAX_IMAGE_PIXELS"):
        data.load(tmp_path, size=32)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    assert data.load(tmp_path, size=32).images.shape == (1, 3, 32, 32)


def _litter(folder):
    """What systems and notebooks leave beside images."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"\0\5\26\7")
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        _save(folder / name / "a-copy.png", PIXELS[5])
    (folder / ".cache").mkdir()


@pytest.mark.parametrize("place", ["", "cat", "cat/young"])
def test_hidden_files_and_folders_are_passed_over(tmp_path, place):
    classes = () if place == "" else ("cat", "dog")
    _save(tmp_path / place / "a.png", PIXELS[0])
    if classes:
        _save(tmp_path / "dog" / "b.png", PIXELS[1])
        _litter(tmp_path)
    _litter(tmp_path / place)
    dataset = data.load(tmp_path)
    assert dataset.classes == (classes or (tmp_path.name,))
    assert dataset.labels.tolist() == list(range(len(dataset.classes)))
    assert torch.equal((dataset.images[0] * 255).round().byte(), torch.tensor(PIXELS[0]).permute(2, 0, 1))


def test_a_class_without_images_is_named(tmp_path):
    _save(tmp_path / "cat" / "a.png", PIXELS[0])
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("none yet")
    with pytest.raises(FileNotFoundError, match=r"every class.*found none in dog.*remove the folder"):
        data.load(tmp_path)
    (tmp_path / "cat" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"found none.*PNG"):
        data.load(tmp_path)


def test_images_beside_class_folders_are_not_ignored(tmp_path):
    _save(tmp_path / "cat" / "a.png", PIXELS[0])
    _save(tmp_path / "stray.png", PIXELS[1])
    with pytest.raises(ValueError, match=r"beside its subfolders \(stray\.png\) and inside them \(cat\).*Move"):
        data.load(tmp_path)
    (tmp_path / "cat" / "a.png").unlink()  # a folder with something else in it is no class
    assert data.load(tmp_path).classes == (tmp_path.name,)


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "nothing.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"nothing\.png is not a readable image"):
        data.load(tmp_path)


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
