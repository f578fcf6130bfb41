"""Folders of images: their classes, sizes, links, hidden and damaged files."""

import numpy as np
import pytest
import torch
from pictures import PIXELS, save
from PIL import Image

from gilib import data


def test_a_folder_with_subfolders_has_their_names_as_classes(tmp_path):
    save(tmp_path / "dog" / "a.png", PIXELS[0])
    save(tmp_path / "cat" / "b.png", PIXELS[1])
    save(tmp_path / "cat" / "c.png", PIXELS[2, :, :, 0])
    dataset = data.load(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [0, 0, 1]
    assert torch.equal((dataset.images[2] * 255).round().byte(), torch.tensor(PIXELS[0]).permute(2, 0, 1))
    assert torch.equal(dataset.images[1, 0], dataset.images[1, 2])  # the grey image became a colour image


def test_a_flat_folder_is_one_class_cut_to_the_centre(tmp_path):
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    wide[:, 20:40] = 200
    save(tmp_path / "pets" / "wide.png", wide)
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
    save(tmp_path / "a.png", PIXELS[0])
    save(tmp_path / "b.png", PIXELS[1, :10])
    with pytest.raises(ValueError, match=r"32 x 10, 32 x 32.*size=32"):
        data.load(tmp_path)
    assert data.load(tmp_path, size=12).images.shape == (2, 3, 12, 12)


def test_a_link_back_into_a_class_reads_no_image_twice(tmp_path):
    save(tmp_path / "cat" / "a.png", PIXELS[0])
    save(tmp_path / "cat" / "more" / "b.png", PIXELS[1])
    save(tmp_path / "dog" / "c.png", PIXELS[2])
    (tmp_path / "cat" / "more" / "up").symlink_to(tmp_path / "cat")
    (tmp_path / "dog" / "all").symlink_to(tmp_path)
    dataset = data.load(tmp_path)
    assert dataset.labels.tolist() == [0, 0, 1]
    assert dataset.classes == ("cat", "dog")


def _litter(folder):
    """What systems and notebooks leave beside images."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"\0\5\26\7")
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        save(folder / name / "a-copy.png", PIXELS[5])
    (folder / ".cache").mkdir()


@pytest.mark.parametrize("place", ["", "cat", "cat/young"])
def test_hidden_files_and_folders_are_passed_over(tmp_path, place):
    classes = () if place == "" else ("cat", "dog")
    save(tmp_path / place / "a.png", PIXELS[0])
    if classes:
        save(tmp_path / "dog" / "b.png", PIXELS[1])
        _litter(tmp_path)
    _litter(tmp_path / place)
    dataset = data.load(tmp_path)
    assert dataset.classes == (classes or (tmp_path.name,))
    assert dataset.labels.tolist() == list(range(len(dataset.classes)))
    assert torch.equal((dataset.images[0] * 255).round().byte(), torch.tensor(PIXELS[0]).permute(2, 0, 1))


def test_a_class_without_images_is_named(tmp_path):
    save(tmp_path / "cat" / "a.png", PIXELS[0])
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "notes.txt").write_text("none yet")
    with pytest.raises(FileNotFoundError, match=r"every class.*found none in dog.*remove the folder"):
        data.load(tmp_path)
    (tmp_path / "cat" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"found none.*PNG"):
        data.load(tmp_path)


def test_images_beside_class_folders_are_not_ignored(tmp_path):
    save(tmp_path / "cat" / "a.png", PIXELS[0])
    save(tmp_path / "stray.png", PIXELS[1])
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
    save(tmp_path / f"good.{ending}", PIXELS[0])
    content = (tmp_path / f"good.{ending}").read_bytes()
    (tmp_path / f"bad.{ending}").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"bad\.{ending} is not a readable image.*remove it"):
        data.load(tmp_path)


def test_an_empty_folder_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found none.*PNG"):
        data.load(tmp_path)
