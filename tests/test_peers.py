"""Asynchronous methods between real processes: no deadlock, the sum conserved, and an end where a process is lost."""

import json
import re
import time
from dataclasses import replace

import numpy as np
import pytest

from aldsgd.clocks import Clock
from aldsgd.errors import ConfigError
from aldsgd.trainers import trainer_for
from experiments.configuration import RunConfig
from tests.processes import launch
from tests.test_virtual import BASE, DATA


def test_pairs_average_on_any_connected_graph_and_conserve_the_sum(tmp_path):
    done = launch("peers:pairs", 4, tmp_path, 120)
    assert json.loads((tmp_path / "codes.json").read_text()) == [0] * 4, done.stderr
    drift, met, refused, distance, _, sent = np.load(tmp_path / "peers_pairs.npy").T
    assert (drift < 1e-12).all() and (met == 20).all() and (refused <= met).all()
    assert (distance < 0.5).all() and (sent > 4 * 20 * 650 * 8).all()


def test_a_server_between_processes_learns(tmp_path):
    done = launch("peers:server", 2, tmp_path, 120)
    assert json.loads((tmp_path / "codes.json").read_text()) == [0] * 2, done.stderr
    assert (np.load(tmp_path / "peers_server.npy")[:, 4] < 1.5).all()


def test_a_server_goes_on_from_a_checkpoint_at_the_rate_where_it_was(tmp_path):
    done = launch("peers_resumed", 2, tmp_path, 120)
    assert json.loads((tmp_path / "codes.json").read_text()) == [0] * 2, done.stderr
    losses = np.load(tmp_path / "peers_resumed.npy")
    assert len(losses) == 3 and (losses == losses[0]).all()


@pytest.mark.parametrize("real", [False, True])
def test_what_an_asynchronous_method_would_pass_over_is_refused(real):
    for changes, said in ((dict(lead_cap=3), "nor a defence"), (dict(lr=(0.1,) * 8), "one learning rate")):
        config = BASE.but(method="async_server", real=real, **changes)
        with pytest.raises(ConfigError, match=said):
            trainer_for(config.algorithm(3), config.build(DATA), DATA, config.settings())


def test_a_killed_process_ends_the_others_with_one_sentence(tmp_path):
    began = time.monotonic()
    done = launch("peers:pairs:killed", 4, tmp_path, 120)
    codes = json.loads((tmp_path / "codes.json").read_text())
    assert codes[2] == -9 and all(code not in (0, -9) for rank, code in enumerate(codes) if rank != 2)
    assert time.monotonic() - began < 100
    assert "Traceback" not in done.stderr and re.search(r"waited for|could not exchange", done.stderr)


def test_real_asynchrony_needs_a_process_for_each_worker():
    config = BASE.but(method="adpsgd", real=True)
    with pytest.raises(ConfigError, match="one process for each of the 8 workers"):
        trainer_for(config.algorithm(3), config.build(DATA), DATA, config.settings())
    with pytest.raises(ConfigError, match="real time has no clock"):
        trainer_for(config.algorithm(3), config.build(DATA), DATA, replace(config.settings(), clock=Clock()))
    assert config.key != BASE.but(method="adpsgd").key
    assert RunConfig(method="dpsgd", real=True).key == RunConfig(method="dpsgd").key
