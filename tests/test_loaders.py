"""The loaders, on tiny sets in every layout, whole and damaged, and texts."""

import hashlib
import io
import os
import pickle
import struct
import zlib
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets as tv

from aldsgd import image_files
from aldsgd.datasets import load
from aldsgd.errors import ConfigError
from aldsgd.own_files import CONTEXT
from tests.test_data import arrays


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ALDSGD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_digits_are_a_fixed_stratified_part_of_scikit_learns():
    from sklearn.datasets import load_digits

    data, again = load("digits"), load("digits", root="nowhere")
    assert (data.shape, data.outputs, data.train_inputs.dtype) == ((1, 8, 8), 10, torch.uint8)
    assert torch.equal(data.train_inputs, again.train_inputs)
    pixels, labels = load_digits(return_X_y=True)
    for c in range(10):
        test, train = int((data.test_targets == c).sum()), int((data.train_targets == c).sum())
        assert train + test == (labels == c).sum()
        assert abs(test - 0.2 * (train + test)) <= 0.5
    both = torch.cat([data.train_inputs, data.test_inputs]).flatten(1).numpy()
    tagged = np.column_stack([both, torch.cat([data.train_targets, data.test_targets])])
    original = np.column_stack([np.round(pixels / 16 * 255), labels])
    assert sorted(map(tuple, tagged)) == sorted(map(tuple, original.astype(int)))


def write_folders(root, name, size, channels, classes=10, train=3, test=2):
    """A tiny set of image folders; returns the pixels by path relative to the set's folder."""
    rng = np.random.default_rng(0)
    pixels = {}
    for part, count in (("train", train), ("test", test)):
        for c in range(classes):
            folder = root / name / part / f"{'abcdefghij'[c]} class"
            folder.mkdir(parents=True)
            for i in range(count):
                image = rng.integers(0, 256, (size, size, channels), dtype=np.uint8)
                path = folder / f"{i}.png"
                Image.fromarray(image.squeeze()).save(path)
                pixels[path.relative_to(root / name).as_posix()] = image.transpose(2, 0, 1)
    return pixels


@pytest.fixture
def cifar_folders(tmp_path):
    return tmp_path, write_folders(tmp_path, "cifar10", 32, 3)


@pytest.mark.parametrize(("name", "size", "channels"), [("cifar10", 32, 3), ("fashionmnist", 28, 1)])
def test_image_folders_give_the_pixels_and_alphabetical_labels(tmp_path, monkeypatch, name, size, channels):
    pixels = write_folders(tmp_path, name, size, channels)
    (tmp_path / name / "train" / "a class" / "notes.txt").write_text("no image")
    (tmp_path / name / "train" / ".hidden").mkdir()
    monkeypatch.setenv("ALDSGD_DATA", str(tmp_path))
    data = load(name)
    for part, images, labels in (
        ("train", data.train_inputs, data.train_targets),
        ("test", data.test_inputs, data.test_targets),
    ):
        paths = sorted(path for path in pixels if path.startswith(part + "/"))
        assert labels.tolist() == ["abcdefghij".index(path.split("/")[1][0]) for path in paths]
        np.testing.assert_array_equal(images, np.stack([pixels[path] for path in paths]))
    assert data.outputs == 10 and len(data.mean) == len(data.std) == channels
    assert data.name == name


def test_decoded_images_are_cached_until_the_folder_changes(cifar_folders, own_cache, monkeypatch):
    root, _ = cifar_folders
    decoded = []
    decode = image_files._decode
    monkeypatch.setattr(image_files, "_decode", lambda paths, shape: decoded.append(1) or decode(paths, shape))
    first, second = load("cifar10", root), load("cifar10", str(root))
    assert len(decoded) == 2
    assert torch.equal(first.train_inputs, second.train_inputs)
    assert torch.equal(first.test_targets, second.test_targets)

    path = root / "cifar10" / "train" / "a class" / "0.png"
    Image.new("RGB", (32, 32), (9, 8, 7)).save(path)
    assert load("cifar10", root).train_inputs[0, :, 0, 0].tolist() == [9, 8, 7]
    assert len(decoded) == 4
    assert [file.suffix for file in (own_cache / "decoded").iterdir()] == [".npz"]


def test_the_cache_is_keyed_by_every_file(cifar_folders):
    root, _ = cifar_folders
    one, two = (root / "cifar10" / "train" / "a class" / f"{i}.png" for i in (0, 1))
    before = load("cifar10", root).train_inputs
    contents = one.read_bytes(), two.read_bytes()
    times = [(path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in (one, two)]

    def place(pair):
        for path, content, time in zip((one, two), pair, times, strict=True):
            path.write_bytes(content)
            os.utime(path, ns=time)

    place(contents[::-1])  # the sum of sizes stays, and each file's time
    swapped = load("cifar10", root).train_inputs
    assert torch.equal(swapped[[1, 0]], before[[0, 1]]) and torch.equal(swapped[2:], before[2:])

    longer = io.BytesIO()
    Image.new("RGB", (32, 32), (1, 2, 3)).save(longer, "PNG")
    place((longer.getvalue(), contents[1]))
    assert load("cifar10", root).train_inputs[0, :, 5, 5].tolist() == [1, 2, 3]
    same_size = bytearray(longer.getvalue())
    other = io.BytesIO()
    Image.new("RGB", (32, 32), (3, 2, 1)).save(other, "PNG")
    assert len(other.getvalue()) == len(same_size), "one colour packs like another"
    place((other.getvalue(), contents[1]))
    assert load("cifar10", root).train_inputs[0, :, 5, 5].tolist() == [3, 2, 1]


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "foreign"])
def test_a_damaged_cache_file_is_made_again(cifar_folders, own_cache, damage):
    root, _ = cifar_folders
    whole = load("cifar10", root)
    (cached,) = (own_cache / "decoded").iterdir()
    content = bytearray(cached.read_bytes())
    content[len(content) // 2] ^= 255
    cached.write_bytes(
        {"cut": bytes(content[: len(content) // 2]), "flip": bytes(content), "empty": b"", "foreign": b"x" * 99}[damage]
    )
    assert torch.equal(load("cifar10", root).train_inputs, whole.train_inputs)
    with np.load(cached) as stored:
        np.testing.assert_array_equal(stored["train_inputs"], whole.train_inputs)


def test_an_unwritable_cache_only_warns(cifar_folders, tmp_path, monkeypatch):
    root, _ = cifar_folders
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ALDSGD_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.warns(UserWarning, match="not kept"):
        assert len(load("cifar10", root).train_targets) == 30


def damaged(root, name, *words, **options):
    with pytest.raises(ConfigError) as caught:
        load(name, root, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert str(word) in message


def crc(size, png):
    """Check sum of a PNG header that says ``size`` x ``size``."""
    return struct.pack(">I", zlib.crc32(png[12:16] + struct.pack(">II", size, size) + png[24:29]))


def test_damaged_image_folders_are_named(cifar_folders):
    root, _ = cifar_folders
    path = root / "cifar10" / "test" / "c class" / "1.png"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    damaged(root, "cifar10", path, "no readable image")
    path.write_bytes(b"")
    damaged(root, "cifar10", path, "no readable image")
    Image.new("RGB", (32, 31)).save(path)
    damaged(root, "cifar10", path, "32x31")
    for size in (10_000, 30_000):  # by its header alone: a warning and an error of the reader's
        path.write_bytes(whole[:16] + struct.pack(">II", size, size) + whole[24:29] + crc(size, whole) + whole[33:])
        damaged(root, "cifar10", path, "replace it")
    path.unlink()
    path.symlink_to(root / "nowhere.png")
    damaged(root, "cifar10", path, "remove the link")
    path.unlink()
    path.write_bytes(whole)
    load("cifar10", root)

    (root / "cifar10" / "test" / "c class").rename(root / "cifar10" / "test" / "k class")
    damaged(root, "cifar10", "c class", "equal names")
    for image in (root / "cifar10" / "test" / "k class").iterdir():
        image.unlink()
    damaged(root, "cifar10", root / "cifar10" / "test", "9 class folders")
    (root / "cifar10" / "train").rename(root / "cifar10" / "other")
    damaged(root, "cifar10", root / "cifar10" / "train")


def write_idx(root, train=20, test=10, classes=10, size=(28, 28)):
    """A tiny Fashion-MNIST in torchvision's layout; returns train images, train labels, and those of the test."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    parts = arrays(train, test, classes, size)
    for i, file in enumerate(("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")):
        x = parts[i].astype(np.uint8)
        head = struct.pack(f">BBBB{x.ndim}I", 0, 0, 8, x.ndim, *x.shape)
        (raw / f"{file}-ubyte").write_bytes(head + x.tobytes())
    return parts


def test_torchvisions_fashion_mnist_layout_comes_first(tmp_path):
    parts = write_idx(tmp_path)
    write_folders(tmp_path, "fashionmnist", 28, 1)
    data = load("fashionmnist", tmp_path)
    np.testing.assert_array_equal(data.train_inputs, parts[0][:, None])
    np.testing.assert_array_equal(data.train_targets, parts[1])
    np.testing.assert_array_equal(data.test_inputs, parts[2][:, None])
    np.testing.assert_array_equal(data.test_targets, parts[3])
    assert data.mean.tolist() == pytest.approx([0.2860]) and data.std.tolist() == pytest.approx([0.3530])


@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", ["cut", "long", "empty", "head", "gone"])
def test_damaged_idx_files_are_named(tmp_path, file, damage):
    write_idx(tmp_path)
    path = tmp_path / "FashionMNIST" / "raw" / file
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        changed = {"cut": content[:-1], "long": content + b"\0", "empty": b"", "head": b"\1" + content[1:]}
        path.write_bytes(changed[damage])
    damaged(tmp_path, "fashionmnist", path, "--download")


def test_idx_files_that_do_not_belong_together(tmp_path):
    write_idx(tmp_path / "a")
    write_idx(tmp_path / "b", train=30)
    name = "FashionMNIST/raw/train-labels-idx1-ubyte"
    (tmp_path / "b" / name).replace(tmp_path / "a" / name)
    damaged(tmp_path / "a", "fashionmnist", "20 train images but 30 train labels")
    write_idx(tmp_path / "c", classes=9)
    damaged(tmp_path / "c", "fashionmnist", "9 classes")
    write_idx(tmp_path / "d", size=(28, 27))
    damaged(tmp_path / "d", "fashionmnist", "(1, 28, 27)", "(1, 28, 28)")


def write_cifar(root, monkeypatch, name):
    """A tiny CIFAR in torchvision's layout, whose MD5 sums torchvision is made to expect."""
    dataset = {"cifar10": tv.CIFAR10, "cifar100": tv.CIFAR100}[name]
    classes = {"cifar10": 10, "cifar100": 100}[name]
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)

    def write(file, content):
        raw = pickle.dumps(content)
        (folder / file).write_bytes(raw)
        return [file, hashlib.md5(raw).hexdigest()]

    rng = np.random.default_rng(0)
    expected, lists = {}, {"train_list": [], "test_list": []}
    for part in lists:
        for file, _ in getattr(dataset, part):
            pixels = rng.integers(0, 256, (classes, 3072), dtype=np.uint8)
            labels = rng.permutation(classes).tolist()
            lists[part].append(write(file, {"data": pixels, "fine_labels" if classes > 10 else "labels": labels}))
            expected.setdefault(part, []).append((pixels.reshape(-1, 3, 32, 32), labels))
    meta = write(dataset.meta["filename"], {dataset.meta["key"]: [str(c) for c in range(classes)]})
    for part in lists:
        monkeypatch.setattr(dataset, part, lists[part])
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": meta[1]})
    return folder, {part: [np.concatenate(x) for x in zip(*files, strict=True)] for part, files in expected.items()}


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_torchvisions_cifar_layout(tmp_path, monkeypatch, name):
    folder, expected = write_cifar(tmp_path, monkeypatch, name)
    data = load(name, tmp_path)
    np.testing.assert_array_equal(data.train_inputs, expected["train_list"][0])
    np.testing.assert_array_equal(data.train_targets, expected["train_list"][1])
    np.testing.assert_array_equal(data.test_inputs, expected["test_list"][0])
    np.testing.assert_array_equal(data.test_targets, expected["test_list"][1])
    assert data.train_inputs.is_contiguous()

    file = folder / ("data_batch_3" if name == "cifar10" else "train")
    file.write_bytes(file.read_bytes()[:-1])
    damaged(tmp_path, name, file, "MD5", "--download")
    file.unlink()
    damaged(tmp_path, name, file, "missing")


@pytest.mark.parametrize("name", ["fashionmnist", "cifar10", "cifar100"])
def test_missing_data_says_where_it_looked_and_how_to_get_it(tmp_path, monkeypatch, name):
    damaged(tmp_path, name, tmp_path, "torchvision", "--download", f"{name}/train", "--data", "$ALDSGD_DATA")
    monkeypatch.setenv("ALDSGD_DATA", str(tmp_path / "elsewhere"))
    damaged(None, name, tmp_path / "elsewhere")
    monkeypatch.delenv("ALDSGD_DATA")
    monkeypatch.chdir(tmp_path)
    damaged(None, name, tmp_path / "data")


def test_unknown_names_list_the_known_ones(tmp_path):
    damaged(tmp_path, "imagenet", "digits, mnist, svhn, fashionmnist, cifar10, cifar100, text:PATH, folder:PATH")


def test_downloads_are_torchvisions_and_only_where_nothing_is_there(tmp_path, monkeypatch):
    def refuse(self):
        raise URLError("no route\nto host")

    monkeypatch.setattr(tv.FashionMNIST, "download", refuse)
    damaged(tmp_path, "fashionmnist", "could not fetch", tmp_path, "no route to host", download=True)

    monkeypatch.setattr(tv.FashionMNIST, "download", lambda self: write_idx(tmp_path / "new"))
    assert len(load("fashionmnist", tmp_path / "new", download=True).train_targets) == 20

    monkeypatch.setattr(tv.FashionMNIST, "download", refuse)
    write_folders(tmp_path / "folders", "fashionmnist", 28, 1)
    assert len(load("fashionmnist", tmp_path / "folders", download=True).train_targets) == 30


# ---- texts ----


def test_a_text_is_cut_into_windows_that_predict_the_next_characters(tmp_path):
    text = "".join(np.random.default_rng(0).choice(list("abcdé\n"), 3000))
    letters = sorted(set(text))

    def words(codes):
        return "".join(letters[i] for i in codes.flatten().tolist())

    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "t.txt").write_bytes(text.encode(encoding))
        data = load(f"text:{tmp_path / 't.txt'}")
        assert (data.task, data.outputs, data.vocabulary, data.shape) == ("tokens", 6, 6, (CONTEXT,))
        train, test = words(data.train_inputs), words(data.test_inputs)
        assert text.startswith(train) and len(train) > 2600
        assert text[2700:].startswith(test) and len(test) >= CONTEXT
        assert text[1:].startswith(words(data.train_targets)) and text[2701:].startswith(words(data.test_targets))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 characters"),
        (b"short", "5 characters"),
        (b"a" * 5000, "repeats one character"),
        (bytes(range(256)) * 20, "UTF-8"),
        ("zwei".encode("utf-16") * 1000, "UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_texts_that_cannot_be_learnt(tmp_path, content, words):
    path = tmp_path / "t.txt"
    if content is not None:
        path.write_bytes(content)
    damaged(tmp_path, f"text:{path}", words, "t.txt")


def test_a_text_that_is_a_folder_or_has_no_name(tmp_path):
    damaged(tmp_path, f"text:{tmp_path}", "cannot be read")
    damaged(tmp_path, "text:", "cannot be read")
