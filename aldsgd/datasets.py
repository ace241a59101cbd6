"""Data sets as tensors in memory: real images by name, a text file, or a user's arrays.

Files are looked for in torchvision's own layout, then in image folders; torchvision's download comes last.
Whole sets are held as uint8; ``aldsgd.data`` normalises and augments a batch at a time.
"""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aldsgd import own_files
from aldsgd.errors import ConfigError, one_line, whole
from aldsgd.image_files import SOURCES, from_folders, from_torchvision
from aldsgd.own_names import FILES, own_data
from aldsgd.streams import FIXED_SEED, rng

#: Classes and different tokens: more are a mistake of numbering, and a layer for them would fill the memory.
LARGEST = 10**6


@dataclass
class Data:
    """A training and a test set, in memory.

    train_inputs, test_inputs: uint8 images (N, C, H, W), floating-point features (N, ...), or integer tokens (N, T),
    each used as it is. train_targets, test_targets: int64 (N,) in 0..outputs-1, floats (N, outputs) to regress on, or
    int64 (N, T), one for each token. task: a name of ``aldsgd.tasks``. outputs: numbers that a model gives for a
    target. mean, std: (C,) per channel in 0..1 units, or None (for features, unless the user gives them for (N, C, H,
    W)). vocabulary: different tokens.
    """

    name: str
    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    outputs: int
    mean: Tensor | None = None
    std: Tensor | None = None
    task: str = "classification"
    vocabulary: int | None = None

    @classmethod
    def from_arrays(
        cls,
        train_inputs,
        train_targets,
        test_inputs,
        test_targets,
        classes: int | None = None,
        mean=None,
        std=None,
        name: str = "custom",
    ) -> "Data":
        """A user's own tensors or arrays: uint8 images (N, C, H, W), floats of any shape (N, ...), or tokens (N, T).

        Integer targets (N,) are classes, integer targets (N, T) a class for each token, floating-point targets (N,) or
        (N, k) values to regress on. ``classes`` defaults to the largest label plus one; for uint8 images, mean and std
        default to those of the training images. Raises ConfigError for shapes, types or values that do not fit
        together.
        """
        inputs = [_samples("train inputs", train_inputs), _samples("test inputs", test_inputs)]
        if inputs[0].shape[1:] != inputs[1].shape[1:] or inputs[0].dtype != inputs[1].dtype:
            raise ConfigError(
                f"train inputs are {_describe(inputs[0])} but test inputs {_describe(inputs[1])}: "
                f"give both the same shape and type"
            )
        targets = [
            _targets("train targets", train_targets, inputs[0]),
            _targets("test targets", test_targets, inputs[1]),
        ]
        if targets[0].shape[1:] != targets[1].shape[1:] or targets[0].dtype != targets[1].dtype:
            raise ConfigError(
                f"train targets are {_describe(targets[0])} but test targets {_describe(targets[1])}: "
                f"give both the same shape and type"
            )
        task, outputs = "classification", targets[0].shape[-1]
        if targets[0].is_floating_point():
            task = "regression"
            if classes is not None:
                raise ConfigError(f"{classes} classes, but the targets are floating-point numbers: give integers")
        else:
            task, outputs = ("tokens" if targets[0].ndim == 2 else task), _classes(targets, classes)
        tokens = inputs[0].dtype == torch.int64
        vocabulary = int(max(x.max() for x in inputs)) + 1 if tokens else None
        if tokens and vocabulary > LARGEST:
            raise ConfigError(
                f"tokens up to {vocabulary - 1:,} would be as many rows of an embedding: number them from 0"
            )
        if (mean is None) != (std is None):
            raise ConfigError("mean and std belong together: give both or neither")
        if mean is None and inputs[0].dtype == torch.uint8:
            mean, std = _channel_statistics(inputs[0])
        if mean is not None:
            mean, std = (_tensor(what, v).float().flatten() for what, v in (("mean", mean), ("std", std)))
            if inputs[0].ndim != 4 or not (len(mean) == len(std) == inputs[0].shape[1]):
                raise ConfigError("mean and std are per channel: give C numbers each with (N, C, H, W)")
            if not bool(torch.isfinite(mean).all() and (std > 0).all() and torch.isfinite(std).all()):
                raise ConfigError("mean and std must be finite, and std above zero: check the numbers")
        return cls(name, inputs[0], targets[0], inputs[1], targets[1], outputs, mean, std, task, vocabulary)

    @classmethod
    def from_dataset(cls, train, test, **options) -> "Data":
        """Two map-style torch ``Dataset``s of (input, target), read into memory; options as for ``from_arrays``."""
        arrays = []
        for what, dataset in (("train", train), ("test", test)):
            try:
                pairs = [dataset[i] for i in range(len(dataset))]
                inputs, targets = zip(*pairs, strict=True)
                arrays += [torch.stack([torch.as_tensor(x) for x in part]) for part in (inputs, targets)]
            except Exception as error:
                raise ConfigError(
                    f"the {what} Dataset gives no equal tensors (input, target) ({one_line(error)}): add a transform"
                ) from error
        return cls.from_arrays(*arrays, **options)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, such as (3, 32, 32)."""
        return tuple(self.train_inputs.shape[1:])

    def to(self, device) -> "Data":
        """The same data with every tensor on ``device``."""
        tensors = {key: value.to(device) for key, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)

    def subset(self, train_limit: int | None = None, test_limit: int | None = None, seed: int | None = None) -> "Data":
        """At most so many training and test samples, spread evenly over the classes; None takes all.

        The choice is fixed, or follows from ``seed``; it keeps the order of the data, and a smaller limit chooses a
        part of what a larger one does. Raises ConfigError for a limit below one.
        """
        chosen = {}
        for part, limit in (("train", train_limit), ("test", test_limit)):
            labels = getattr(self, f"{part}_targets")
            if limit is not None and whole(limit, f"the limit of {part} samples") < 1:
                raise ConfigError(f"a limit of {limit} {part} images leaves nothing: use 1 or more, or none")
            if limit is None or limit >= len(labels):
                continue
            keep = torch.from_numpy(_balanced(self._classes_of(labels), limit, seed)).to(labels.device)
            chosen[f"{part}_inputs"] = getattr(self, f"{part}_inputs")[keep]
            chosen[f"{part}_targets"] = labels[keep]
        return replace(self, **chosen)

    def held_out(self, count: int) -> "Data":
        """Training samples in two parts: ``count`` of them, spread evenly over the classes, take the test set's place.

        The choice is fixed. For choosing options by what the test set does not know. Raises ConfigError where one of
        the parts would be empty.
        """
        labels = self.train_targets
        if not 1 <= whole(count, "the number of samples held out") < len(labels):
            raise ConfigError(f"{count} of {len(labels)} training samples cannot be held out; use fewer, 1 or more")
        held = torch.zeros(len(labels), dtype=torch.bool)
        held[torch.from_numpy(_balanced(self._classes_of(labels), count))] = True
        held = held.to(labels.device)
        return replace(
            self,
            train_inputs=self.train_inputs[~held],
            train_targets=labels[~held],
            test_inputs=self.train_inputs[held],
            test_targets=labels[held],
        )

    def _classes_of(self, labels: Tensor) -> np.ndarray:
        """The classes over which a choice of samples is spread: one for all where targets are none."""
        return labels.cpu().numpy() if self.task == "classification" else np.zeros(len(labels), dtype=np.int64)


def _describe(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} ({', '.join(('N', *map(str, x.shape[1:])))})"


def _tensor(what: str, x) -> Tensor:
    """A tensor of bytes, floats or int64 from whatever holds numbers."""
    if not isinstance(x, Tensor):
        try:
            x = np.asarray(x)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{what} are no array ({one_line(error)}): give samples of one shape") from None
        if x.dtype.kind not in "buif":
            raise ConfigError(f"{what} are of type {x.dtype}: give real numbers, classes numbered from 0")
        if x.dtype.kind in "ui" and x.dtype.itemsize > 1:
            x = x.astype(np.int64)
        elif x.dtype.kind == "f":
            x = x.astype(x.dtype.newbyteorder("=") if x.dtype.itemsize <= 8 else np.float64)
        x = torch.from_numpy(np.require(x, requirements=["C", "W"]))
    x = x.detach()
    if x.layout != torch.strided or x.is_complex() or x.is_quantized:
        raise ConfigError(f"{what} are sparse, complex or quantised: give dense real numbers")
    return x if x.dtype == torch.uint8 or x.is_floating_point() or x.dtype == torch.bool else x.long()


def _samples(what: str, x) -> Tensor:
    x = _tensor(what, x)
    if x.ndim < 2 or x.numel() == 0:
        raise ConfigError(
            f"{what} of shape {tuple(x.shape)} are no samples: give (N, C, H, W), (N, F) or tokens (N, T)"
        )
    if x.dtype == torch.uint8:
        if x.ndim != 4:
            raise ConfigError(f"{what} are uint8 of shape {tuple(x.shape)}: images need (N, C, H, W)")
        if x.shape[1] > 4 and x.shape[3] <= 4:
            raise ConfigError(f"{what} of shape {tuple(x.shape)} have channels last: permute to (N, C, H, W)")
    elif x.dtype == torch.int64:
        if x.ndim != 2 or int(x.min()) < 0:
            raise ConfigError(
                f"{what} are integers of shape {tuple(x.shape)}: give tokens (N, T) numbered from 0, or floats"
            )
    elif not x.is_floating_point():
        raise ConfigError(f"{what} have type {x.dtype}: give uint8 pixels, floating-point features or tokens")
    elif not bool(torch.isfinite(x).all()):
        raise ConfigError(f"{what} contain values that are not finite: clean the data first")
    return x


def _targets(what: str, y, inputs: Tensor) -> Tensor:
    y = _tensor(what, y)
    y = y.long() if y.dtype == torch.uint8 else y
    tokens = inputs.dtype == torch.int64 and y.shape == inputs.shape
    fits = y.ndim == 1 or tokens or y.ndim == 2 and y.is_floating_point() and y.shape[1] > 0
    if not fits or len(y) != len(inputs):
        raise ConfigError(f"{what} have shape {tuple(y.shape)} for {len(inputs)} samples: give one per sample")
    if y.is_floating_point():
        if not bool(torch.isfinite(y).all()):
            raise ConfigError(f"{what} contain values that are not finite: clean the data first")
        return y[:, None] if y.ndim == 1 else y
    if y.dtype == torch.bool or y.min() < 0:
        raise ConfigError(f"{what} must be integers from 0 on: number the classes")
    return y


def _classes(labels: list[Tensor], classes: int | None) -> int:
    """How many classes there are. Raises ConfigError for labels that training cannot know, or above ``classes``."""
    train, test = (int(y.max()) for y in labels)
    if classes is None and test > train:
        raise ConfigError(
            f"label {test} is seen in the test set only, training has 0..{train}: correct it, or give classes"
        )
    classes = train + 1 if classes is None else whole(classes, "classes")
    if max(train, test) >= classes:
        raise ConfigError(f"label {max(train, test)} is not one of {classes} classes: number them from 0")
    if classes > LARGEST:
        raise ConfigError(f"labels up to {train} would be {classes:,} classes: number the classes from 0")
    return classes


def _channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    # Counting the 256 values is exact and needs no floating-point copy of the whole set.
    channels = images.cpu().transpose(0, 1).flatten(1)
    counts = torch.stack([torch.bincount(c, minlength=256) for c in channels]).double()
    weights, values = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.float64) / 255
    mean = weights @ values
    std = ((weights * (values - mean[:, None]) ** 2).sum(1)).sqrt()
    # A constant channel carries nothing; any scale will do.
    return mean, torch.where(std > 0, std, torch.ones_like(std))


def _balanced(labels: np.ndarray, limit: int, seed: int | None = None) -> np.ndarray:
    """Sorted positions of ``limit`` samples: first one of each class, then a second of each, and so on."""
    draws = rng("fixed choice", FIXED_SEED) if seed is None else rng("subset", seed)
    shuffled = draws.permutation(len(labels))
    turn = np.empty(len(labels), dtype=np.int64)
    for c in np.unique(labels):
        members = shuffled[labels[shuffled] == c]
        turn[members] = np.arange(len(members))
    return np.sort(np.lexsort((labels, turn))[:limit])


DATASETS = ("digits", *SOURCES)


def load(name: str, root: str | Path | None = None, download: bool = False) -> Data:
    """The data set ``name``: digits, mnist, fashionmnist, svhn, cifar10, cifar100, or files of one's own
    (``aldsgd.own_files``): text:PATH, folder:PATH, table:PATH or table:PATH,TARGET.

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
    if own_data(name):
        arrays, options = own_files.read(name)
        data = Data.from_arrays(*arrays, classes=options.get("classes"), name=name)
        return replace(data, vocabulary=options.get("vocabulary", data.vocabulary))
    if name not in SOURCES:
        known = ", ".join((*DATASETS, *(f"{kind}:PATH" for kind in FILES)))
        raise ConfigError(f"unknown data set {name!r}: choose one of {known}")
    source = SOURCES[name]
    root = Path(root or os.environ.get("ALDSGD_DATA") or "data").absolute()
    own, folders = root / source.torchvision_folder, root / name
    if own.is_dir():
        arrays = from_torchvision(source, root, download)
    elif (folders / "train").is_dir() or (folders / "test").is_dir():
        arrays = from_folders(name, source, folders)
    elif download:
        arrays = from_torchvision(source, root, download)
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
    test = own_files.held_out(labels)
    return Data.from_arrays(images[~test], labels[~test], images[test], labels[test], 10, name="digits")


def content_hash(data: Data) -> str:
    """SHA-256, shortened, of all samples and targets, in order."""
    digest = hashlib.sha256()
    for tensor in (data.train_inputs, data.train_targets, data.test_inputs, data.test_targets):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
