"""Images from files: torchvision's own layouts, and folders of images, decoded once and cached."""

import hashlib
import os
import struct
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aldsgd.cache import cache_dir, replace_file
from aldsgd.errors import ConfigError, one_line
from aldsgd.own_names import IMAGES

#: Raised when images are decoded in another way, so that none from before is taken from the cache.
DECODED = 2


@dataclass(frozen=True)
class Source:
    """One downloadable set: torchvision's class and folder, what it must contain, and the usual constants."""

    torchvision_class: str
    torchvision_folder: str
    shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def by_split(self) -> bool:
        """Whether torchvision has two files of it by name, rather than a training set and another."""
        return self.torchvision_class == "SVHN"

    @property
    def inside(self) -> str:
        """The folder of the data folder that torchvision takes as its own."""
        return self.torchvision_folder if self.by_split else ""


def parts_of(source: Source) -> tuple[dict, dict]:
    """Arguments of torchvision's class for the training and the test part."""
    return ({"split": "train"}, {"split": "test"}) if source.by_split else ({"train": True}, {"train": False})


# Means and deviations as in public training scripts, MATCHA's released code among them. CIFAR-10's deviations
# are the mean over images of each image's own deviation; over all pixels it is 0.2470, 0.2435, 0.2616.
SOURCES = {
    "mnist": Source("MNIST", "MNIST/raw", (1, 28, 28), 10, (0.1307,), (0.3081,)),
    "svhn": Source("SVHN", "SVHN", (3, 32, 32), 10, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "fashionmnist": Source("FashionMNIST", "FashionMNIST/raw", (1, 28, 28), 10, (0.2860,), (0.3530,)),
    "cifar10": Source(
        "CIFAR10", "cifar-10-batches-py", (3, 32, 32), 10, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    ),
    "cifar100": Source(
        "CIFAR100", "cifar-100-python", (3, 32, 32), 100, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
    ),
}


def from_torchvision(source: Source, root: Path, download: bool) -> list[np.ndarray]:
    """Train images, train labels, test images, test labels from torchvision's own layout."""
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    dataset = getattr(datasets, source.torchvision_class)
    folder = root / source.torchvision_folder
    if download:
        try:
            # The files of other sets come all at once.
            for part in parts_of(source)[: 1 + source.by_split]:
                dataset(root / source.inside, **part, download=True)
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                f"torchvision could not fetch {source.torchvision_class} into {root} ({one_line(error)}): "
                f"check the connection, or bring the data by hand"
            ) from error
    again = "remove it and fetch it again with --download"
    if source.by_split:
        for _, file, md5 in (dataset.split_list[part["split"]] for part in parts_of(source)):
            if not check_integrity(str(folder / file), md5):
                raise ConfigError(f"{folder / file} is missing or damaged (MD5 sum is not {md5}): {again}")
    elif hasattr(dataset, "train_list"):
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
            part = dataset(root / source.inside, **parts_of(source)[not train])
        except Exception as error:
            raise ConfigError(f"torchvision cannot read {folder} ({one_line(error)}): {again}") from error
        labels = np.asarray(part.labels if source.by_split else part.targets, dtype=np.int64)
        pixels = np.asarray(part.data)
        if not source.by_split:
            pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
        arrays += [np.ascontiguousarray(pixels), labels]
    return arrays


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


def from_folders(
    name: str, source: Source, folders: Path, parts: tuple[str, ...] = ("train", "test")
) -> list[np.ndarray]:
    """Images and labels of each part, a folder in ``folders``, from a folder per class; decoded once, then cached."""
    listed = {part: list_images(folders / part) for part in parts}
    classes = {part: sorted({path.parent.name for path in paths}) for part, paths in listed.items()}
    for part, found in classes.items():
        if len(found) != source.classes:
            raise ConfigError(
                f"{folders / part} has {len(found)} class folders with images instead of {source.classes}: "
                f"complete it, one folder of images per class"
            )
    if classes[parts[0]] != classes[parts[-1]]:
        differ = sorted(set(classes[parts[0]]) ^ set(classes[parts[-1]]))
        raise ConfigError(f"{folders} has class {differ[0]!r} in train or test only: use equal names")

    paths = [path for part in listed.values() for path in part]
    known = hashlib.sha256(f"{DECODED} {source.shape}".encode())
    for path in paths:
        try:
            state = path.stat()
        except OSError as error:
            raise ConfigError(f"{path} cannot be read ({one_line(error)}): replace it, or remove the link") from error
        # With the time at which the entry changed: a file may be put there with the old one's size and time.
        marks = state.st_size, state.st_mtime_ns, state.st_ctime_ns
        known.update(f"{os.fsencode(path.relative_to(folders))} {marks}\n".encode())
    key = known.hexdigest()
    digest = hashlib.sha256(str(folders.resolve()).encode()).hexdigest()[:12]
    cached = cache_dir() / "decoded" / f"{name}-{digest}.npz"
    fields = [f"{part}_{what}" for part in parts for what in ("inputs", "targets")]
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
        warnings.warn(f"decoded images are not kept for the next run: {one_line(error)}", stacklevel=3)
    return arrays


def size_of(path: Path) -> tuple[int, int, int]:
    """(channels, height, width) of an image file: one channel where it is grey. Raises ConfigError."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
            return 1 if image.mode in ("1", "L") or _deep(image) else 3, height, width
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigError(f"{path} is no readable image ({one_line(error)}): replace it") from error


def _deep(image) -> bool:
    """Whether an opened image is grey with 16 bits a pixel, which Pillow holds in 32 for some formats."""
    return image.mode.startswith("I;16") or image.mode == "I" and image.format in ("PNG", "PPM")


def _pixels(image, channels: int, path: Path) -> np.ndarray:
    """uint8 (H, W, channels) of an opened image; of 16 bits the upper 8. Raises ConfigError for what would be lost."""
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        if _deep(image) or image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
            raise ConfigError(f"{path} is transparent in places: put it on a background")
    if image.mode in ("I", "F") and not _deep(image):
        raise ConfigError(f"{path} has 32 bits a pixel, whose range is not known: save it with 8, or 16")
    if _deep(image):
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], channels, axis=2)
    pixels = np.asarray(image.convert("RGB"))
    if channels == 1 and (pixels != pixels[..., :1]).any():
        raise ConfigError(f"{path} is in colour, and the data are grey: save all alike")
    return pixels[..., :channels]


def list_images(folder: Path) -> list[Path]:
    """Image files FOLDER/<class>/*, sorted by class and name; other files are passed over."""
    try:
        classes = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
        return [
            path
            for c in classes
            for path in sorted(c.iterdir())
            if path.suffix.lower() in IMAGES and path.name[0] != "."
        ]
    except OSError as error:
        raise ConfigError(f"{folder} cannot be read ({one_line(error)}): use a folder per class") from error


def _decode(paths: list[Path], shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 (N, C, H, W) of image files that must all have the size ``shape``."""
    from PIL import Image

    channels, height, width = shape
    images = np.empty((len(paths), height, width, channels), dtype=np.uint8)

    def read(i: int) -> None:
        try:
            with Image.open(paths[i]) as image:
                if image.size != (width, height):  # known from the header, before anything is decoded
                    size = "x".join(map(str, image.size))
                    raise ConfigError(f"{paths[i]} is {size} pixels instead of {width}x{height}: replace it")
                images[i] = _pixels(image, channels, paths[i])
        except ConfigError:
            raise
        except Image.DecompressionBombError:
            raise ConfigError(f"{paths[i]} is far larger than {width}x{height} pixels: replace it") from None
        except (OSError, SyntaxError, ValueError) as error:
            raise ConfigError(f"{paths[i]} is no readable image ({one_line(error)}): replace it") from error

    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as threads:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused by its size above
        list(threads.map(read, range(len(paths))))
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
