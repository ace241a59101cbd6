"""How flatness is measured: on functions with known barriers, and the script from its smoke preset to its figure."""

import sys
from types import SimpleNamespace

import pytest
import torch

from aldsgd.errors import ConfigError
from experiments import flat
from figures.flat import draw
from tables.flat import flat as table


def test_the_barrier_is_between_the_two_furthest_and_above_the_line_between_them():
    hill = SimpleNamespace(loss=lambda x: 3 - x.square().sum() + x[0])
    models = torch.tensor([[-1.0, 0.0], [0.5, 0.0], [1.0, 0.0]])
    # From 1 to 3 over the line 1 + 2 s: the hill is 1 higher in the middle.
    assert flat.barrier(hill, models) == pytest.approx((1.0, 2.0))


def test_a_rise_is_that_of_a_sphere_of_a_twentieth_of_the_norm():
    model = torch.tensor([3.0, 4.0])
    bowl = SimpleNamespace(loss=lambda x: (x - model).square().sum())
    assert flat.rise(bowl, model, 0) == pytest.approx((0.05 * 5) ** 2, rel=1e-5)


def test_the_script_its_table_and_its_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["flat", "--preset", "smoke", "--seeds", "0", "--results", str(tmp_path)])
    flat.main(None)
    found = table(tmp_path)
    assert found.rows["flat"].tolist() == ["D-PSGD"] and "no conclusion" in found.caption
    assert [path.name for path in draw(tmp_path, tmp_path)] == ["flat.pdf", "flat.png"]
    with pytest.raises(ConfigError, match=r"python -m experiments\.flat"):
        table(tmp_path / "nothing")
