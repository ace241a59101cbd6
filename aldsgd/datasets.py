"""Real image sets as tensors: scikit-learn's digits, Fashion-MNIST, CIFAR-10, CIFAR-100, or a user's arrays.

Files are looked for in torchvision's own layout, then in image folders; torchvision's download comes last.
Whole sets are held as uint8; ``aldsgd.data`` normalises and augments a batch at a time.
"""

import hashlib
import os
import struct
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aldsgd.cache import cache_dir, replace_file
from aldsgd.errors import ConfigError

_FIXED_SEED = 1234


@dataclass
class Data:
    """A training and a test set, in memory.

    train_images, test_images: uint8 (N, C, H, W), or floating-point features (N, ...) that are used as they
    are. train_labels, test_labels: int64 (N,) in 0..classes-1. mean, std: (C,) per channel in 0..1 units, or
    None (for features, unless the user gives them for (N, C, H, W)).
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    classes: int
    mean: Tensor | None = None
    std: Tensor | None = None

    @classmethod
    def from_arrays(
        cls,
        train_images,
        train_labels,
        test_images,
        test_labels,
        classes: int | None = None,
        mean=None,
        std=None,
        name: str = "custom",
    ) -> "Data":
        """A user's own tensors or NumPy arrays: uint8 images (N, C, H, W) or floats of any shape (N, ...).

        ``classes`` defaults to the largest label plus one; for uint8 images, mean and std default to those of
        the training images. Raises ConfigError for shapes, types or labels that do not fit together.
        """
        images = [_samples("train images", train_images), _samples("test images", test_images)]
        if images[0].shape[1:] != images[1].shape[1:] or images[0].dtype != images[1].dtype:
            raise ConfigError(
                f"train images are {_describe(images[0])} but test images {_describe(images[1])}: "
                f"give both the same shape and type"
            )
        labels = [
            _labels("train labels", train_labels, len(images[0])),
            _labels("test labels", test_labels, len(images[1])),
        ]
        largest = int(max(y.max() for y in labels))
        classes = largest + 1 if classes is None else classes
        if largest >= classes:
            raise ConfigError(f"label {largest} is not one of {classes} classes: number them from 0")
        if (mean is None) != (std is None):
            raise ConfigError("mean and std belong together: give both or neither")
        if mean is None and images[0].dtype == torch.uint8:
            mean, std = _channel_statistics(images[0])
        if mean is not None:
            mean, std = (torch.as_tensor(v, dtype=torch.float32).flatten() for v in (mean, std))
            if images[0].ndim != 4 or not (len(mean) == len(std) == images[0].shape[1]):
                raise ConfigError("mean and std are per channel: give C numbers each with (N, C, H, W)")
            if not bool(torch.isfinite(mean).all() and (std > 0).all() and torch.isfinite(std).all()):
                raise ConfigError("mean and std must be finite, and std above zero: check the numbers")
        return cls(name, images[0], labels[0], images[1], labels[1], classes, mean, std)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, such as (3, 32, 32)."""
        return tuple(self.train_images.shape[1:])

    def to(self, device) -> "Data":
        """The same data with every tensor on ``device``."""
        tensors = {key: value.to(device) for key, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)

    def subset(self, train_limit: int | None = None, test_limit: int | None = None) -> "Data":
        """At most so many training and test samples, spread evenly over the classes; None takes all.

        The choice is fixed (seed 1234), keeps the order of the data, and a smaller limit chooses a part of
        what a larger one does. Raises ConfigError for a limit below one.
        """
        chosen = {}
        for part, limit in (("train", train_limit), ("test", test_limit)):
            labels = getattr(self, f"{part}_labels")
            if limit is not None and limit < 1:
                raise ConfigError(f"a limit of {limit} {part} images leaves nothing: use 1 or more, or none")
            if limit is None or limit >= len(labels):
                continue
            keep = torch.from_numpy(_balanced(labels.cpu().numpy(), limit)).to(labels.device)
            chosen[f"{part}_images"] = getattr(self, f"{part}_images")[keep]
            chosen[f"{part}_labels"] = labels[keep]
        return replace(self, **chosen)


def _describe(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} (N, {', '.join(map(str, x.shape[1:]))})"


def _samples(what: str, x) -> Tensor:
    x = x.detach() if isinstance(x, Tensor) else torch.from_numpy(np.require(x, requirements=["C", "W"]))
    if x.ndim < 2 or x.numel() == 0:
        raise ConfigError(f"{what} of shape {tuple(x.shape)} are no samples: give (N, C, H, W) or (N, F)")
    if x.dtype == torch.uint8:
        if x.ndim != 4:
            raise ConfigError(f"{what} are uint8 of shape {tuple(x.shape)}: images need (N, C, H, W)")
        if x.shape[1] > 4 and x.shape[3] <= 4:
            raise ConfigError(f"{what} of shape {tuple(x.shape)} have channels last: permute to (N, C, H, W)")
    elif not x.is_floating_point():
        raise ConfigError(f"{what} have type {x.dtype}: give uint8 pixels or floating-point features")
    elif not bool(torch.isfinite(x).all()):
        raise ConfigError(f"{what} contain values that are not finite: clean the data first")
    return x


def _labels(what: str, y, samples: int) -> Tensor:
    y = y.detach() if isinstance(y, Tensor) else torch.from_numpy(np.array(y))
    if y.ndim != 1 or len(y) != samples:
        raise ConfigError(f"{what} have shape {tuple(y.shape)} for {samples} samples: give one per sample")
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool or int(y.min()) < 0:
        raise ConfigError(f"{what} must be integers from 0 on: number the classes")
    return y.long()


def _channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    # Counting the 256 values is exact and needs no floating-point copy of the whole set.
    channels = images.cpu().transpose(0, 1).flatten(1)
    counts = torch.stack([torch.bincount(c, minlength=256) for c in channels]).double()
    weights, values = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64) / 255
    mean = weights @ values
    std = ((weights * (values - mean[:, None]) ** 2).sum(1)).sqrt()
    # A constant channel carries nothing; any scale will do.
    return mean, torch.where(std > 0, std, torch.ones_like(std))


def _balanced(labels: np.ndarray, limit: int) -> np.ndarray:
    """Sorted positions of ``limit`` samples: first one of each class, then a second of each, and so on."""
    shuffled = np.random.default_rng(_FIXED_SEED).permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)
    for c in np.unique(labels):
        members = shuffled[labels[shuffled] == c]
        turn[members] = np.arange(len(members))
    return np.sort(np.lexsort((labels, turn))[:limit])


@dataclass(frozen=True)
class _Source:
    """One downloadable set: torchvision's class and folder, what it must contain, and the usual constants."""

    torchvision_class: str
    torchvision_folder: str
    shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


# Means and deviations as in public training scripts, MATCHA's released code among them. CIFAR-10's deviations
# are the mean over images of each image's own deviation; over all pixels it is 0.2470, 0.2435, 0.2616.
_SOURCES = {
    "fashionmnist": _Source("FashionMNIST", "FashionMNIST/raw", (1, 28, 28), 10, (0.2860,), (0.3530,)),
    "cifar10": _Source(
        "CIFAR10", "cifar-10-batches-py", (3, 32, 32), 10, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    ),
    "cifar100": _Source(
        "CIFAR100", "cifar-100-python", (3, 32, 32), 100, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    ),
}
DATASETS = ("digits", *_SOURCES)


def load(name: str, root: str | Path | None = None, download: bool = False) -> Data:
    """The data set ``name``: digits, fashionmnist, cifar10 or cifar100.

    root: the data folder; None takes $ALDSGD_DATA, else ``data``. Understood are torchvision's own layout
    (ROOT/FashionMNIST/raw, ROOT/cifar-10-batches-py, ROOT/cifar-100-python) and, where that is absent, image
    folders ROOT/NAME/{train,test}/<class>/*, classes numbered alphabetically, decoded once and cached. With
    ``download``, torchvision fetches what is in neither form, and completes its own layout. The digits need
    no folder.

    Raises ConfigError where data is missing (says where it looked and how to get it) or damaged (names the
    file), and for an unknown name.
    """
    if name == "digits":
        return _digits()
    if name not in _SOURCES:
        raise ConfigError(f"unknown data set {name!r}: choose one of {', '.join(DATASETS)}")
    source = _SOURCES[name]
    root = Path(root or os.environ.get("ALDSGD_DATA") or "data").absolute()
    own, folders = root / source.torchvision_folder, root / name
    if own.is_dir():
        arrays = _from_torchvision(source, root, download)
    elif (folders / "train").is_dir() or (folders / "test").is_dir():
        arrays = _from_folders(name, source, folders)
    elif download:
        arrays = _from_torchvision(source, root, download)
    else:
        raise ConfigError(
            f"no {name} data in {root}: neither {source.torchvision_folder} (torchvision's layout) nor "
            f"{name}/train and {name}/test (image folders, <class>/* in each) is there; let torchvision "
            f"fetch it with --download, put images there, or name another folder with --data or $ALDSGD_DATA"
        )
    for part, images, labels in (("train", *arrays[:2]), ("test", *arrays[2:])):
        found = len(np.unique(labels))
        if found != source.classes or images.shape[1:] != source.shape:
            raise ConfigError(
                f"the {part} part of {name} in {root} has {found} classes of images {images.shape[1:]}, not "
                f"{source.classes} of {source.shape}: replace the data, or remove it and use --download"
            )
    return Data.from_arrays(*arrays, source.classes, source.mean, source.std, name)


def _digits() -> Data:
    """1,797 handwritten digits 8x8 (scikit-learn), split 80/20 within each class, always the same way."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ConfigError("the digits come with scikit-learn: pip install scikit-learn") from None

    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    shuffled = np.random.default_rng(_FIXED_SEED).permutation(len(labels))
    test = np.zeros(len(labels), dtype=bool)
    for c in range(10):
        members = shuffled[labels[shuffled] == c]
        test[members[: round(0.2 * len(members))]] = True
    return Data.from_arrays(images[~test], labels[~test], images[test], labels[test], 10, name="digits")


def _from_torchvision(source: _Source, root: Path, download: bool) -> list[np.ndarray]:
    """Train images, train labels, test images, test labels from torchvision's own layout."""
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    dataset = getattr(datasets, source.torchvision_class)
    folder = root / source.torchvision_folder
    if download:
        try:
            dataset(root, download=True)
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                f"torchvision could not fetch {source.torchvision_class} into {root} ({_one_line(error)}): "
                f"check the connection, or bring the data by hand"
            ) from error
    again = "remove it and fetch it again with --download"
    if hasattr(dataset, "train_list"):
        files = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
        for file, md5 in files:
            if not check_integrity(str(folder / file), md5):
                raise ConfigError(f"{folder / file} is missing or damaged (MD5 sum is not {md5}): {again}")
    else:
        for part in ("train", "t10k"):
            images = _idx_count(folder / f"{part}-images-idx3-ubyte", again)
            labels = _idx_count(folder / f"{part}-labels-idx1-ubyte", again)
            if images != labels:
                raise ConfigError(f"{folder} has {images} {part} images but {labels} {part} labels: {again}")
    arrays = []
    for train in (True, False):
        try:
            part = dataset(root, train=train)
        except Exception as error:
            raise ConfigError(f"torchvision cannot read {folder} ({_one_line(error)}): {again}") from error
        pixels, labels = np.asarray(part.data), np.asarray(part.targets, dtype=np.int64)
        pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
        arrays += [np.ascontiguousarray(pixels), labels]
    return arrays


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _idx_count(path: Path, again: str) -> int:
    """Number of samples of an idx file, whose length must be what its header says."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
            sizes = struct.unpack(f">{head[3]}I", file.read(4 * head[3]))
            expected = 4 + 4 * len(sizes) + int(np.prod(sizes, dtype=np.int64))
            whole = head[:3] == b"\0\0\x08" and path.stat().st_size == expected and sizes[0] > 0
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: {again}") from None
    except (OSError, IndexError, struct.error):
        whole = False
    if not whole:
        raise ConfigError(f"{path} is damaged (not the idx file of bytes its header promises): {again}")
    return sizes[0]


def _from_folders(name: str, source: _Source, folders: Path) -> list[np.ndarray]:
    """Train images, train labels, test images, test labels from image folders; decoded once, then cached."""
    listed = {part: _list_images(folders / part) for part in ("train", "test")}
    classes = {part: sorted({path.parent.name for path in paths}) for part, paths in listed.items()}
    for part, found in classes.items():
        if len(found) != source.classes:
            raise ConfigError(
                f"{folders / part} has {len(found)} class folders with images instead of {source.classes}: "
                f"complete it, one folder of images per class"
            )
    if classes["train"] != classes["test"]:
        differ = sorted(set(classes["train"]) ^ set(classes["test"]))
        raise ConfigError(f"{folders} has class {differ[0]!r} in train or test only: use equal names")

    paths = [path for part in listed.values() for path in part]
    states = [path.stat() for path in paths]
    key = f"{len(paths)} {max(s.st_mtime_ns for s in states)} {sum(s.st_size for s in states)} {source.shape}"
    digest = hashlib.sha256(str(folders.resolve()).encode()).hexdigest()[:12]
    cached = cache_dir() / "decoded" / f"{name}-{digest}.npz"
    fields = ("train_images", "train_labels", "test_images", "test_labels")
    try:
        with np.load(cached) as stored:
            if str(stored["key"]) == key:
                return [stored[field] for field in fields]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass

    arrays = []
    for part, paths in listed.items():
        number = {c: i for i, c in enumerate(classes[part])}
        arrays.append(_decode(paths, source.shape))
        arrays.append(np.array([number[path.parent.name] for path in paths], dtype=np.int64))
    contents = dict(zip(fields, arrays, strict=True))
    try:
        replace_file(cached, lambda temporary: np.savez(temporary, key=key, **contents))
    except OSError as error:
        warnings.warn(f"decoded images are not kept for the next run: {_one_line(error)}", stacklevel=3)
    return arrays


def _list_images(folder: Path) -> list[Path]:
    """Image files FOLDER/<class>/*, sorted by class and name; other files are passed over."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    try:
        classes = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
        return [
            path
            for c in classes
            for path in sorted(c.iterdir())
            if path.suffix.lower() in IMG_EXTENSIONS and path.name[0] != "."
        ]
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read ({_one_line(error)}): use a folder per class") from error


def _decode(paths: list[Path], shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 (N, C, H, W) of image files that must all have the size ``shape``."""
    from PIL import Image

    channels, height, width = shape
    images = np.empty((len(paths), height, width, channels), dtype=np.uint8)

    def read(i: int) -> None:
        try:
            with Image.open(paths[i]) as image:
                pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise ConfigError(f"{paths[i]} is no readable image ({_one_line(error)}): replace it") from error
        if pixels.shape[:2] != (height, width):
            size = f"{pixels.shape[1]}x{pixels.shape[0]}"
            raise ConfigError(f"{paths[i]} is {size} pixels instead of {width}x{height}: replace it")
        images[i] = pixels.reshape(height, width, channels)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(read, range(len(paths))))
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
