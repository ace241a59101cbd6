"""What BatchNorm's policies change: paired within a run, by hand."""

import numpy as np
import pytest
from scipy import stats

import paper_tables
from aldsgd.errors import ConfigError
from aldsgd.listings import write_experiment
from aldsgd.records import RunStore
from baselines.registry import VARIANTS
from experiments.rates import OWN_RATES
from tables.policies import COLUMNS, policies

WHICH = ("worst", "mean", "best", "averaged")


def made_up(root, also: tuple[str, ...]) -> np.ndarray:
    """Five runs of one method; (seed, policy, of ``WHICH``), the run's own policy first."""
    values = np.random.default_rng(3).uniform(0.6, 0.8, (5, 3, 4))
    store, runs = RunStore(root), []
    for seed, of_run in enumerate(values):
        config = {"dataset": "cifar10", "model": "cnn", "workers": 8, "graph": "ring", "epochs": 1, "lr": 0.1,
                  "bn_images": 512, "seed": seed, **VARIANTS["D-PSGD"].changes}  # fmt: skip
        config |= {"also": also} if also else {}
        row = {"epoch": 1, "step": 1, "rounds": 1, "logical_bytes": 1, "train_loss": 1.0, "consensus_distance": 0.0,
               "modelled_compute_s": 1.0, "modelled_communication_s": 1.0}  # fmt: skip
        for policy, found in zip(("", *(f"{name}_" for name in also)), of_run, strict=False):
            row |= {f"{policy}{which}_accuracy": value for which, value in zip(WHICH, found, strict=True)}
        with store.writer(config, {}, ("accuracy",), also) as writer:
            writer.append([row])
            writer.finish()
        runs.append(("D-PSGD, own rate", seed, config))
    write_experiment(root, "final_accuracy", "mid", runs, {"D-PSGD, own rate": OWN_RATES})
    return values


def test_differences_are_within_a_run(tmp_path):
    values = 100 * made_up(tmp_path, ("own", "fresh"))
    table = policies(tmp_path)
    own, fresh, default = values[:, 1], values[:, 2], values[:, 0]
    expected = (own[:, 0], fresh[:, 0] - own[:, 0], default[:, 3], own[:, 3] - default[:, 3])
    for title, numbers in zip(COLUMNS, expected, strict=True):
        cell = table.rows[title][0].value
        interval = stats.ttest_1samp(numbers, 0.0).confidence_interval(0.95)
        assert (cell.mean, cell.low, cell.high) == pytest.approx((numbers.mean(), *interval), rel=1e-9)
    assert "from 512 training images" in paper_tables.render("batchnorm", tmp_path)


def test_runs_under_one_policy_are_refused(tmp_path):
    made_up(tmp_path, ())
    with pytest.raises(ConfigError, match="tested under several policies; train its preset mid"):
        policies(tmp_path)
