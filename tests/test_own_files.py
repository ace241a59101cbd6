"""Data of one's own from the command line: image folders, tables, and torchvision's MNIST and SVHN."""

import hashlib
import struct

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from aldsgd.datasets import load
from aldsgd.errors import ConfigError
from aldsgd.image_files import size_of
from aldsgd.own_files import held_out
from aldsgd.own_names import files_hash
from experiments import run
from experiments.configuration import RunConfig
from tests.calling import SHORT, call

OPTIONS = ("--workers", "2", "--graph", "complete", "--quiet", "--epochs", "1", "--threads", "1", "--batch", "4")


def images(root, counts, size=(6, 5), mode="RGB", seed=0):
    draws = np.random.default_rng(seed)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for k in range(count):
            shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
            Image.fromarray(draws.integers(0, 256, shape).astype(np.uint8), mode).save(root / name / f"{k}.png")


def table(path, rows=60, **columns):
    draws = np.random.default_rng(1)
    frame = pd.DataFrame({"a": draws.normal(3, 2, rows), "b": draws.integers(0, 5, rows), **columns})
    frame.to_csv(path, index=False)
    return frame


def test_a_folder_per_class_is_cut_into_a_fixed_fifth(tmp_path):
    images(tmp_path / "mine", {"cat": 20, "dog": 10, "owl": 5})
    data = load(f"folder:{tmp_path / 'mine'}")
    assert data.shape == (3, 5, 6) and data.outputs == 3 and data.name == f"folder:{tmp_path / 'mine'}"
    assert np.bincount(data.train_targets).tolist() == [16, 8, 4] and np.bincount(data.test_targets).tolist() == [
        4,
        2,
        1,
    ]
    again = load(f"folder:{tmp_path / 'mine'}")
    assert (again.test_inputs == data.test_inputs).all()
    both = {x.numpy().tobytes() for x in (*data.train_inputs, *data.test_inputs)}
    assert len(both) == 35


def test_a_folder_with_both_parts_keeps_them(tmp_path):
    images(tmp_path / "train", {"a": 6, "b": 4}, mode="L")
    images(tmp_path / "test", {"a": 2, "b": 3}, mode="L", seed=1)
    data = load(f"folder:{tmp_path}")
    assert data.shape == (1, 5, 6) and len(data.train_targets) == 10
    assert np.bincount(data.test_targets).tolist() == [2, 3]
    ended = call(run, *OPTIONS, "--model", "logistic", "--data", f"folder:{tmp_path}", "--results", tmp_path / "runs")
    assert ended.code == 0, ended.err


def drawn(root, image, others="L", **how):
    """A folder of two classes of grey or other images, and one that is ``image``; its path."""
    images(root, {"a": 2, "b": 3}, (4, 4), others)
    suffix = how.pop("suffix", "png")
    image.save(root / "b" / f"z.{suffix}", **how)
    return f"folder:{root}"


DEEP = np.arange(16, dtype=np.uint16).reshape(4, 4) * 4000
GREY = Image.fromarray((DEEP >> 8).astype(np.uint8))


@pytest.mark.parametrize("others", ["L", "RGB"])
def test_sixteen_bits_of_grey_are_scaled_and_eight_in_any_mode_are_kept(others, tmp_path):
    for k, (image, how) in enumerate(
        [
            (Image.fromarray(DEEP), {}),
            (Image.fromarray(DEEP), dict(suffix="pgm")),
            (Image.fromarray(DEEP), dict(suffix="tif")),
            *((GREY.convert(mode), {}) for mode in ("L", "LA", "RGB", "RGBA", "P")),
            (GREY, dict(transparency=1)),  # a value that no pixel has
            (GREY.convert("CMYK"), dict(suffix="tif")),
        ]
    ):
        data = load(drawn(tmp_path / str(k), image, others, **how))
        found = [x for x in (*data.train_inputs, *data.test_inputs) if (x.numpy() == np.asarray(GREY)).all()]
        assert len(found) == 1, (image.mode, how)
    first = tmp_path / "0" / "a" / "0.png"
    Image.fromarray(DEEP).save(first)
    assert size_of(first) == (1, 4, 4)


@pytest.mark.parametrize(
    ("image", "how", "said"),
    [
        (Image.fromarray(DEEP.astype(np.int32)), dict(suffix="tif"), "has 32 bits a pixel"),
        (Image.fromarray(DEEP.astype(np.float32)), dict(suffix="tif"), "has 32 bits a pixel"),
        (Image.fromarray(np.dstack([DEEP] * 4).astype(np.uint8)), {}, "is transparent in places"),
        (Image.merge("LA", (GREY, GREY)), {}, "is transparent in places"),
        (GREY.convert("P"), dict(transparency=15), "is transparent in places"),
        (GREY, dict(transparency=15), "is transparent in places"),
        (Image.merge("RGB", (GREY, GREY, GREY.rotate(90))), {}, "is in colour, and the data are grey"),
    ],
)
def test_images_that_would_lose_what_they_show_are_refused(image, how, said, tmp_path):
    with pytest.raises(ConfigError, match=f"z.{how.get('suffix', 'png')} {said}"):
        load(drawn(tmp_path / "mine", image, **how))


def test_a_table_of_classes_and_text_features(tmp_path):
    kinds = np.array(["red", "blue", "red"] * 20)
    frame = table(tmp_path / "t.csv", colour=kinds, label=np.array(["x", "y", "z"] * 20))
    data = load(f"table:{tmp_path / 't.csv'}")
    assert data.task == "classification" and data.outputs == 3 and data.shape == (4,)  # a, b, and two colours
    assert len(data.test_targets) == 12 and np.bincount(data.test_targets).tolist() == [4, 4, 4]
    np.testing.assert_allclose(data.train_inputs.mean(dim=0), 0, atol=1e-5)
    np.testing.assert_allclose(data.train_inputs.std(dim=0, correction=0), 1, atol=1e-5)
    test = held_out(pd.factorize(frame["label"], sort=True)[0])
    own = frame["a"].to_numpy(dtype=np.float32)
    expected = (own[test] - own[~test].mean()) / own[~test].std()
    np.testing.assert_allclose(data.test_inputs[:, 0], expected, rtol=1e-4, atol=1e-5)
    other = load(f"table:{tmp_path / 't.csv'},b")
    assert other.outputs == 5


def test_a_table_of_numbers_to_regress_on(tmp_path):
    frame = table(tmp_path / "t.csv", y=np.linspace(-1, 1, 60))
    data = load(f"table:{tmp_path / 't.csv'}")
    assert data.task == "regression" and data.outputs == 1
    assert sorted(data.train_targets.flatten().tolist() + data.test_targets.flatten().tolist()) == pytest.approx(
        sorted(frame["y"])
    )
    ended = call(run, *OPTIONS, "--model", "mlp", "--data", f"table:{tmp_path / 't.csv'}", "--results", tmp_path / "r")
    assert ended.code == 0 and "averaged_r2" in ended.out


def test_a_table_whose_name_has_a_comma(tmp_path):
    table(tmp_path / "a,b.csv", label=np.array(["x", "y", "z"] * 20))
    for name, columns in ((f"table:{tmp_path / 'a,b.csv'}", 3), (f"table:{tmp_path / 'a,b.csv'},b", 5)):
        assert load(name).outputs == columns
        ended = call(run, *OPTIONS, "--model", "logistic", "--data", name, "--results", tmp_path / "runs")
        assert ended.code == 0, ended.err


def test_other_files_are_another_run(tmp_path):
    table(tmp_path / "t.csv", y=np.linspace(-1, 1, 60))
    config = RunConfig(dataset=f"table:{tmp_path / 't.csv'}")
    key = config.key
    assert RunConfig(dataset=f"table:{tmp_path / 't.csv'},a").key != key
    table(tmp_path / "t.csv", y=np.linspace(-1, 2, 60))
    assert config.key != key
    images(tmp_path / "mine", {"a": 3, "b": 3})
    before = files_hash(f"folder:{tmp_path / 'mine'}")
    images(tmp_path / "mine" / "more", {"c": 1})
    assert files_hash(f"folder:{tmp_path / 'mine'}") != before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder:{}/none", "is no folder"),
        ("folder:{}/one", "has images of 1 classes"),
        ("folder:{}/sizes", "pixels instead of"),
        ("table:{}/none.csv", "cannot be read"),
        ("table:{}/t.csv,zzz", "has no column 'zzz'"),
        ("table:{}/gap.csv", "column 'a' of .* has cells without a value"),
        ("table:{}/short.csv", "has 3 rows"),
        ("table:{}/ids.csv", "has a class for nearly every row"),
        ("table:{}/t.parquet", "cannot be read|pyarrow"),
        ("folder:", "is no folder"),
        ("table:", "cannot be read"),
    ],
)
def test_files_that_make_no_data_are_one_sentence(name, message, tmp_path):
    images(tmp_path / "one", {"a": 3})
    images(tmp_path / "sizes", {"a": 2})
    images(tmp_path / "sizes", {"b": 2}, size=(9, 9))
    frame = table(tmp_path / "t.csv", label=["x", "y"] * 30)
    frame.assign(a=frame["a"].where(frame.index > 0)).to_csv(tmp_path / "gap.csv", index=False)
    frame.head(3).to_csv(tmp_path / "short.csv", index=False)
    frame.assign(label=[f"id {i}" for i in range(60)]).to_csv(tmp_path / "ids.csv", index=False)
    (tmp_path / "t.parquet").write_bytes(b"none")
    with pytest.raises(ConfigError, match=message) as caught:
        load(name.format(tmp_path))
    assert "\n" not in str(caught.value)
    ended = call(run, *SHORT, "--data", name.format(tmp_path), "--results", tmp_path / "runs")
    assert ended.refused


def test_mnist_in_torchvisions_layout(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    for part, count in (("train", 30), ("t10k", 20)):
        pixels, labels = draws.integers(0, 256, (count, 28, 28)), np.arange(count) % 10
        for what, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{part}-{what}-ubyte").write_bytes(head + array.astype(np.uint8).tobytes())
    data = load("mnist", tmp_path)
    assert data.shape == (1, 28, 28) and len(data.train_targets) == 30 and data.outputs == 10


def test_svhn_in_torchvisions_layout(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    draws, folder, known = np.random.default_rng(0), tmp_path / "SVHN", {}
    folder.mkdir()
    for part, count in (("train", 20), ("test", 10)):
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)[:, None]  # the file numbers the digit 0 as 10
        savemat(folder / f"{part}_32x32.mat", {"X": draws.integers(0, 256, (32, 32, 3, count), np.uint8), "y": labels})
        known[part] = ["", f"{part}_32x32.mat", hashlib.md5((folder / f"{part}_32x32.mat").read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", known)
    data = load("svhn", tmp_path)
    assert data.shape == (3, 32, 32) and np.bincount(data.train_targets).tolist() == [2] * 10
    (folder / "test_32x32.mat").write_bytes(b"cut")
    with pytest.raises(ConfigError, match="is missing or damaged"):
        load("svhn", tmp_path)
