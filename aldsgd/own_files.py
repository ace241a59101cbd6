"""Data of one's own from files: a text, a folder of images, a table.

text:PATH: character language modelling; each window of ``CONTEXT`` characters predicts the next ones; the last tenth is
the test set. folder:PATH: PATH/{train,test}/<class>/*, or PATH/<class>/*, of which a fixed fifth of each class is the
test set; all images have the size of the first, and are grey if it is; of 16 bits a pixel the upper 8 count. table:PATH
or table:PATH,TARGET: CSV or Parquet, the target the last column if none is named; text columns become one column for
each value; whole numbers and text are classes, other numbers are regressed on; a fixed fifth of the rows is the test
set; features are standardised by the training rows.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from aldsgd.errors import ConfigError, one_line
from aldsgd.image_files import Source, from_folders, list_images, size_of
from aldsgd.own_names import table_parts
from aldsgd.streams import FIXED_SEED, rng

#: Characters in a window of a text.
CONTEXT = 64
TEST_SHARE = 0.2
MOST_FEATURES = 10**5


#: Train inputs, train targets, test inputs, test targets, and how many classes or different tokens there are.
Read = tuple[list[np.ndarray], dict[str, int]]


def read(name: str) -> Read:
    """What "kind:PATH" stands for. Raises ConfigError for what cannot be read."""
    kind, _, path = name.partition(":")
    return {"text": _text, "folder": _folder, "table": _table}[kind](path)


def held_out(classes: np.ndarray) -> np.ndarray:
    """Which samples (N,) bool are the test set: a fixed fifth of each class, one at least where a class has two."""
    shuffled = rng("fixed choice", FIXED_SEED).permutation(len(classes))
    test = np.zeros(len(classes), dtype=bool)
    for c in np.unique(classes):
        members = shuffled[classes[shuffled] == c]
        test[members[: max(round(TEST_SHARE * len(members)), len(members) > 1)]] = True
    return test


def _text(name: str) -> Read:
    """Windows of a text: inputs (N, CONTEXT) of character numbers, targets the characters that follow each; the last
    tenth of the text is the test set."""
    path = Path(name)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the text {path} cannot be read ({one_line(error)}): name a UTF-8 file") from error
    if len(text) < 20 * (CONTEXT + 1):
        raise ConfigError(
            f"the text {path} has {len(text)} characters: at least {20 * (CONTEXT + 1)} make a training set"
        )
    letters = sorted(set(text))
    if len(letters) < 2:
        raise ConfigError(f"the text {path} repeats one character: there is nothing to predict")
    number = {letter: i for i, letter in enumerate(letters)}
    codes, cut = np.array([number[letter] for letter in text], dtype=np.int64), len(text) * 9 // 10
    parts = []
    for part in (codes[:cut], codes[cut:]):
        count = (len(part) - 1) // CONTEXT
        parts += [
            part[: count * CONTEXT].reshape(count, CONTEXT),
            part[1 : count * CONTEXT + 1].reshape(count, CONTEXT),
        ]
    return parts, {"classes": len(letters), "vocabulary": len(letters)}


def _folder(name: str) -> Read:
    """Images in a folder per class, with parts train and test or without."""
    path = Path(name)
    if not name or not path.is_dir():
        raise ConfigError(f"folder:{name} is no folder; name one that holds train and test, or a folder per class")
    parted = (path / "train").is_dir() or (path / "test").is_dir()
    images = list_images(path / "train" if parted else path)
    classes = len({image.parent.name for image in images})
    if classes < 2:
        raise ConfigError(f"{path} has images of {classes} classes; put a folder per class there, two or more")
    source = Source("", "", size_of(images[0]), classes, (), ())
    if parted:
        return from_folders("folder", source, path), {"classes": classes}
    inputs, targets = from_folders("folder", source, path, parts=("",))
    test = held_out(targets)
    return [inputs[~test], targets[~test], inputs[test], targets[test]], {"classes": classes}


def _table(name: str) -> Read:
    """Rows of a CSV or Parquet file."""
    path, target = table_parts(name)
    try:
        read = pd.read_parquet if str(path).endswith((".parquet", ".pq")) else pd.read_csv
        frame = read(path)
    except ImportError:
        raise ConfigError(
            "Parquet files need pyarrow; python -m pip install pyarrow, or write the table as CSV"
        ) from None
    except (OSError, ValueError, UnicodeError) as error:  # pandas' own errors are ValueErrors
        raise ConfigError(f"the table {path} cannot be read ({one_line(error)}): name a CSV or Parquet file") from None
    if target is None:
        target = frame.columns[-1]
    if target not in frame:
        raise ConfigError(f"{path} has no column {target!r}; there are: {', '.join(map(str, frame.columns[:20]))}")
    if len(frame) < 10 or len(frame.columns) < 2:
        raise ConfigError(
            f"{path} has {len(frame)} rows of {len(frame.columns)} columns; give 10 rows and 2 columns or more"
        )
    for column in frame:
        if frame[column].isna().any():
            raise ConfigError(f"column {column!r} of {path} has cells without a value; fill them, or leave them out")
    values, features = frame[target], pd.get_dummies(frame.drop(columns=target), dtype=float)
    if features.shape[1] > MOST_FEATURES or not np.isfinite(features.to_numpy(dtype=float)).all():
        raise ConfigError(f"{path} has columns that are no features; give finite numbers, and text of few values")
    inputs = features.to_numpy(dtype=np.float32)
    regress = pd.api.types.is_float_dtype(values)
    codes, _ = pd.factorize(values, sort=True)
    if not regress and len(np.unique(codes)) > len(frame) / 2:
        raise ConfigError(
            f"column {target!r} of {path} has a class for nearly every row; write numbers to regress on as 1.0"
        )
    test = held_out(np.zeros(len(frame), dtype=int) if regress else codes)
    targets = values.to_numpy(dtype=np.float32) if regress else codes.astype(np.int64)
    mean, std = inputs[~test].mean(axis=0), inputs[~test].std(axis=0)
    inputs = (inputs - mean) / np.where(std > 0, std, 1)
    return [inputs[~test], targets[~test], inputs[test], targets[test]], {}
