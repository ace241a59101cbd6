"""The same runs on 1, 2, 4 and 8 processes, graphs on which others deadlock, and processes that are lost."""

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.distributed as dist

from aldsgd import world
from aldsgd.datasets import load
from aldsgd.distributed import ProcessNetwork, SharedNeighbourhood
from aldsgd.errors import ConfigError
from aldsgd.graphs import paper_graph
from aldsgd.links import Pairs
from aldsgd.network import LocalNetwork
from aldsgd.training import Trainer
from aldsgd.world import PeerError, World, join, meet, own_device
from baselines.matcha import MATCHA
from tests.processes import CONFIGURATIONS, GOSSIP, METHODS, ROOT, graph_algorithm, launch, trained, walk

STEPS, EDGES, PARAMETERS = 50, 7, 650  # 53.8 % graph A; the logistic model on digits, 64 x 10 + 10


@pytest.fixture(scope="module")
def alone():
    """Every configuration in this one process."""
    return {name: trained(config, World()) for name, config in CONFIGURATIONS.items()}


@pytest.fixture(scope="module", params=[2, 4, 8])
def spread(request, tmp_path_factory):
    """(R, every configuration on R processes)."""
    folder = tmp_path_factory.mktemp(f"processes{request.param}")
    done = launch("equality", request.param, folder, limit=300)
    assert json.loads((folder / "codes.json").read_text()) == [0] * request.param, done.stderr
    return request.param, {name: dict(np.load(folder / f"{name}.npz")) for name in CONFIGURATIONS}


def test_any_number_of_processes_gives_the_same_run(alone, spread):
    _, found = spread
    for name, expected in alone.items():
        exact = CONFIGURATIONS[name].precision == "float64"
        tolerance = 1e-10 if exact else 1e-4
        np.testing.assert_allclose(
            found[name]["parameters"], expected["parameters"], rtol=0, atol=tolerance, err_msg=name
        )
        np.testing.assert_array_equal(found[name]["logical_bytes"], expected["logical_bytes"], err_msg=name)
        assert ("leaders" in expected) == (CONFIGURATIONS[name].method == "aldsgd"), name
        if "leaders" in expected:
            np.testing.assert_array_equal(found[name]["leaders"], expected["leaders"], err_msg=name)
        if exact:
            for column in set(expected) - {"parameters", "leaders", "wire_bytes"}:
                np.testing.assert_allclose(
                    found[name][column], expected[column], rtol=1e-9, atol=1e-12, err_msg=f"{name} {column}"
                )


def test_leaders_were_compared_at_every_step(alone):
    # (worker, call, best and largest): every second step with period 2, twice a step in the printed order.
    shapes = {name: alone[name]["leaders"].shape for name in METHODS if "leaders" in alone[name]}
    assert shapes == {
        "released_dpsgd": (8, 50, 2),
        "released_matcha": (8, 50, 2),
        "printed_dpsgd": (8, 100, 2),
        "printed_matcha": (8, 100, 2),
        "rotating": (8, 25, 2),
        "nesterov": (8, 50, 2),
        "printed_adam": (8, 100, 2),
        "rates": (8, 50, 2),
    }
    assert len(np.unique(alone["released_dpsgd"]["leaders"][:, :, 0])) > 2


def test_wire_bytes_are_those_counted_by_hand(spread):
    size, found = spread
    wire = {name: int(found[name]["wire_bytes"]) for name in METHODS}
    # Edges 04 23 36 10 37 56 12: between processes of 4 workers 04 36 37, of 2 workers 04 36 37 56 12.
    crossing = {2: 3, 4: 5, 8: EDGES}[size]
    row, loss = PARAMETERS * 8, 8
    assert wire["dpsgd"] == STEPS * 2 * crossing * row
    assert wire["dpsgd_cwa"] == wire["dpsgd"]
    assert wire["allreduce"] == STEPS * 2 * (size - 1) * row
    if size == 8:
        assert wire["released_dpsgd"] == STEPS * 2 * EDGES * (row + loss) == 3_645_600
        assert wire["printed_dpsgd"] == STEPS * 2 * EDGES * (2 * row + loss)
        matcha = MATCHA(paper_graph(53.8), 0.5, seed=0)
        active = sum(len(m) for t in range(STEPS) for m in matcha.step(t).links.matchings)
        assert wire["matcha"] == 2 * active * row
        check_wire_bytes_of_gossip(found)


def check_wire_bytes_of_gossip(found):
    """They are the logical ones where every worker is a process."""
    exact = {*GOSSIP, "receiver"} - {"led_momentum"}  # losses take 4 bytes in the meter, and 8 of float64 on the wire
    for name in exact:
        assert int(found[name]["wire_bytes"]) == int(found[name]["logical_bytes"][-1]), name
    messages = STEPS * 2 * EDGES
    assert int(found["choco_topk"]["wire_bytes"]) == messages * (65 * 8 + 82)  # 65 places of ten bits
    assert int(found["choco_qsgd"]["wire_bytes"]) == messages * (8 + 407)  # 650 times five bits
    assert int(found["choco_sign"]["wire_bytes"]) == messages * (8 + 82)
    assert int(found["sgp"]["wire_bytes"]) == messages * (PARAMETERS + 1) * 8
    assert int(found["one_peer"]["wire_bytes"]) == STEPS * 8 * PARAMETERS * 8
    assert int(found["noloco"]["wire_bytes"]) == STEPS // 4 * 8 * 2 * PARAMETERS * 8


def test_nothing_is_sent_inside_one_process(alone):
    assert {int(found["wire_bytes"]) for found in alone.values()} == {0}


WALKS = {
    8: ("ring", "line", "star", "complete", "disconnected", "sometimes_none", "random", "everything"),
    4: ("random", "everything"),
    2: ("everything",),
}


@pytest.fixture(scope="module", params=WALKS)
def walked(request, tmp_path_factory):
    """(R, the folder of what R processes did on each graph)."""
    folder = tmp_path_factory.mktemp(f"walks{request.param}")
    done = launch(f"graphs:{','.join(WALKS[request.param])}", request.param, folder, limit=120)
    assert json.loads((folder / "codes.json").read_text()) == [0] * request.param, done.stderr
    return request.param, folder


def test_graphs_that_deadlock_others(walked):
    size, folder = walked
    for name in WALKS[size]:
        alone = walk(name, LocalNetwork(8, centres=graph_algorithm(name).centres))
        np.testing.assert_allclose(np.load(folder / f"{name}.npy"), alone, rtol=0, atol=1e-10, err_msg=name)


def test_the_random_schedule_is_as_wild_as_it_should_be():
    steps = [graph_algorithm("random").step(t) for t in range(500)]
    counts = [len(hop) for step in steps for hop in (step.links.matchings or [()])]
    assert min(counts) == 0 and max(counts) == 4


@pytest.mark.parametrize(
    "how, method", [("kill", "dpsgd"), ("stop", "dpsgd"), ("kill", "allreduce"), ("stop", "allreduce")]
)
def test_a_lost_process_ends_the_job_on_all_ranks(how, method, tmp_path):
    started = time.monotonic()
    done = launch(f"lost:{how}:{method}", 4, tmp_path, limit=60)
    assert time.monotonic() - started < 30
    assert json.loads((tmp_path / "codes.json").read_text()) == [1, 1, -9, 1]
    lines = done.stderr.splitlines()
    assert len(lines) == 3, done.stderr
    for line in lines:
        assert re.match(r"error: at step \d+ rank [013] waited for rank \d, (which did not|whose connection)", line), (
            line
        )
    # The ring's neighbours of rank 2 wait for it; rank 0 waits for one of them. In a collective all wait for rank 2.
    direct = [line for line in lines if "at step 5" in line and "waited for rank 2" in line]
    assert len(direct) == (3 if method == "allreduce" else 2), done.stderr
    assert all(("did not answer within 4 s" if how == "stop" else "connection was lost") in line for line in direct)


@pytest.mark.parametrize(
    "job, size, line",
    [
        ("wrong:before", 4, "error: this cannot be done; do that (on rank 1)"),
        ("wrong:amid", 4, "error: this cannot be done; do that"),
        ("uneven", 3, "error: 8 workers cannot be spread evenly over 3 processes; start one of 1, 2, 4, 8"),
    ],
)
def test_a_mistake_on_any_rank_ends_all_with_one_line(job, size, line, tmp_path):
    done = launch(job, size, tmp_path)
    assert json.loads((tmp_path / "codes.json").read_text()) == [2] * size
    assert done.stderr.splitlines() == [line]


def test_the_reason_is_torchs_own_where_nobody_was_lost(tmp_path):
    done = launch("apart", 2, tmp_path, GLOO_SOCKET_IFNAME="eth9")
    assert json.loads((tmp_path / "codes.json").read_text()) == [1, 1]
    start = (
        "error: before the first step rank {} could not exchange with the others (Unable to find address for: eth9); "
    )
    assert sorted(line.split("what was")[0] for line in done.stderr.splitlines()) == [start.format(r) for r in (0, 1)]


@pytest.mark.parametrize(
    "said, sentence",
    [
        (
            "[/x/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:80",
            "rank 2, whose connection was",
        ),
        ("[/x/pair.cc:1] Read error [127.0.0.1]:80: Connection reset by peer", "rank 2, whose connection was lost"),
        ("[/x/pair.cc:1] writev [127.0.0.1]:80: Broken pipe", "rank 2, whose connection was lost"),
        ("Application timeout caused pair closure", "rank 2, whose connection was lost"),
        ("NCCL error in: a.cpp:9, remote process exited or there was a network error", "rank 2, whose connection was"),
        ("recvValueWithTimeout failed on SocketImpl(fd=5)", "rank 2, whose connection was lost"),
        ("failed to recv, got 0 bytes. Connection was likely closed.", "rank 2, whose connection was lost"),
        ("CUDA out of memory. Tried to allocate 2 GiB\nmore", "(CUDA out of memory. Tried to allocate 2 GiB)"),
        ("[/x/device.cc:2] Unable to resolve hostname", "(Unable to resolve hostname)"),
        (
            "[enforce fail at /x/device.cc:84] ifa != nullptr. Unable to find address for: eth9",
            "(Unable to find address",
        ),
        ("", "(RuntimeError)"),
    ],
)
def test_a_lost_connection_is_told_from_other_failures(said, sentence):
    with pytest.raises(PeerError, match="at step 3 rank 0") as caught, World().names(lambda: "rank 2", 3):
        raise RuntimeError(said)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert ("waited for" in str(caught.value)) == ("rank 2" in sentence)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), float("-inf"), 1e300, None, "30"])
def test_a_timeout_that_makes_no_sense_is_refused(timeout):
    with pytest.raises(ConfigError, match="--timeout .* must be a number of seconds above zero, up to 1000000"):
        join(timeout=timeout)


@pytest.mark.parametrize(
    "environment, message",
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two' in the environment is not a whole number: .* unset them"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE='' in"),
        ({"WORLD_SIZE": "2", "RANK": "-1"}, "RANK='-1' in"),
        ({"WORLD_SIZE": "2", "RANK": "1.5"}, "RANK='1.5' in"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "RANK=2 and WORLD_SIZE=2 in"),
        ({"WORLD_SIZE": "0"}, "RANK=0 and WORLD_SIZE=0 in"),
        ({"RANK": "3"}, "RANK=3 and WORLD_SIZE=1 in"),
        ({"WORLD_SIZE": "2", "MASTER_PORT": "http"}, "MASTER_PORT='http' in"),
        ({"WORLD_SIZE": "2", "MASTER_PORT": "99999"}, "MASTER_PORT=99999 in the environment is no port"),
    ],
)
def test_an_environment_that_no_launcher_makes_is_refused(monkeypatch, environment, message):
    for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError, match=message):
        join()


def test_processes_without_a_meeting_place_say_so(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(PeerError, match="the 2 processes did not meet: .*MASTER_ADDR"):
        join(timeout=2)


@pytest.mark.parametrize("name, text", [("WORLD_SIZE", "many"), ("RANK", "x"), ("RANK", "3")])
def test_a_script_in_such_an_environment_ends_with_one_line(name, text):
    environment = {**os.environ, name: text}
    done = subprocess.run(
        [sys.executable, "-m", "tests.killed_run"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"error: {name}=") and text in done.stderr and done.stderr.count("\n") == 1


def test_an_error_carries_the_world_it_happened_in(monkeypatch):
    monkeypatch.setattr(World, "_beat", lambda self: None)
    with pytest.raises(KeyError) as caught, World(rank=1, size=3, store=object()) as world:
        raise KeyError("x")
    assert caught.value.world is world and not world._left.is_set()
    with World() as alone:
        pass
    assert alone._left.is_set()


def test_more_processes_than_gpus_are_told_to_host_several_workers(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setitem(os.environ, "LOCAL_WORLD_SIZE", "8")
    monkeypatch.setitem(os.environ, "LOCAL_RANK", "1")
    with pytest.raises(ConfigError, match="8 processes on a machine with 2 GPUs.*nproc_per_node 2.*several workers"):
        own_device("cuda")
    with pytest.raises(ConfigError, match="--device cuda:1 would be shared by 8 processes"):
        own_device("cuda:1")
    assert own_device("cpu") == "cpu"
    monkeypatch.setitem(os.environ, "LOCAL_WORLD_SIZE", "2")
    assert own_device("cuda") == "cuda:1"


def test_without_a_launcher_the_world_is_one_process(monkeypatch):
    monkeypatch.delitem(os.environ, "WORLD_SIZE", raising=False)
    alone = join()
    assert (alone.rank, alone.size) == (0, 1)
    assert alone.together(lambda: 3) == 3 and alone.first(lambda: "text") == "text"
    with pytest.raises(ConfigError, match="--timeout 0"):
        join(timeout=0)


def test_exchanges_hold_only_edges_that_leave_the_process():
    matchings = paper_graph(100).matchings
    hood = SharedNeighbourhood(8, Pairs(matchings), range(4, 6), "cpu", lambda worker: worker // 2)
    # Workers 4, 5; edges of [15,67,04,23] [17,36] [10,37,56] [12,70] [31] that reach others: 15 04 and 56.
    assert [crossing.sends for crossing in hood.crossings] == [((1, 0), (0, 0)), ((1, 3),)]
    heard = [[(peer, int(hood.col[entry])) for entry, peer in crossing.receives] for crossing in hood.crossings]
    assert heard == [[(0, 1), (0, 0)], [(3, 6)]]
    assert hood.give == [(0, 0), (0, 1), (3, 1)] and hood.take == [(0, 0), (0, 1), (3, 6)]
    assert hood.inside.row.tolist() == [0, 1] and hood.inside.col.tolist() == [0, 1]


def test_a_row_is_sent_as_it_was_before_the_exchange(monkeypatch):
    """Rank 0 of 4, the other ranks played by the test: whatever is sent are the models before mixing."""
    monkeypatch.setattr(World, "_beat", lambda self: None)
    start, sent = torch.randn(8, 5, dtype=torch.float64), []

    class Played(ProcessNetwork):
        def _send(self, crossing, source, slots):
            sent.extend((source[row], start[row]) for row, _ in crossing.sends)
            for (entry, _), slot in zip(crossing.receives, slots, strict=True):
                slot.copy_(start[hood.col[entry]])
            return []

        def _wait(self, flight):
            assert all(torch.equal(row, original) for row, original in sent)

    network, local = Played(8, World(rank=0, size=4, store=object())), LocalNetwork(8)
    algorithm = graph_algorithm("complete").core
    (exchange,) = algorithm.step(0).after
    hood, models = network.neighbourhood(exchange.links), start[:2].clone()
    network.mix(models, exchange.rule.rows(hood, None, 0.1), hood)
    assert len(sent) == 12  # two workers, six others each
    whole, everyone = start.clone(), local.neighbourhood(exchange.links)
    local.mix(whole, exchange.rule.rows(everyone, None, 0.1), everyone)
    torch.testing.assert_close(models, whole[:2], rtol=0, atol=1e-13)


def test_a_store_full_of_an_earlier_launch_misleads_nobody():
    """torchrun keeps one store over all its restarts; ranks of one launch must not read what another one said."""
    store, names = dist.HashStore(), []
    for _ in range(3):
        with ThreadPoolExecutor(3) as pool:
            found = [pool.submit(meet, store, rank, 3, 20.0) for rank in range(3)]
            mine, *others = (future.result() for future in found)
        mine.set("key", f"launch {len(names)}")
        names += {other.get("key").decode() for other in others}
    assert names == ["launch 0", "launch 1", "launch 2"]
    with pytest.raises(RuntimeError, match="ranks 1, 2 did not come within 0.1 s"):
        meet(store, 0, 3, 0.1)


def test_a_quiet_rank_is_told_from_one_that_has_noticed(monkeypatch):
    """Rank 1 beats, rank 2 has said that it noticed the failure, rank 3 does neither."""
    monkeypatch.setattr(World, "_beat", lambda self: None)
    monkeypatch.setattr(world, "LISTEN", 0)

    class Store(dict):
        beats = 0

        def set(self, key, value):
            self[key] = value

        def check(self, keys):
            return all(key in self for key in keys)

        def get(self, key):
            Store.beats += key == "beat/1"
            return Store.beats if key == "beat/1" else self[key]

    store = Store({"beat/0": 1, "beat/1": 1, "beat/2": 1, "noticed/2": 1})
    assert World(rank=0, size=4, store=store).silent() == "rank 3"


def test_combine_while_adapt_is_under_way_during_the_gradient():
    calls = []

    class Watched(LocalNetwork):
        def post(self, models, hood):
            calls.append("post")

        def mix(self, models, rows, hood, codec=None):
            calls.append("mix")
            super().mix(models, rows, hood, codec)

    data, config = load("digits").subset(256, 100), METHODS["dpsgd_cwa"]
    build = config.build(data)
    trainer = Trainer(config.algorithm(2), build, data, config.settings(), hosting=Watched(8))
    compute = trainer.workers.compute_gradients
    trainer.workers.compute_gradients = lambda *arguments: calls.append("gradient") or compute(*arguments)
    trainer.train_epoch(0)
    assert calls == ["post", "gradient", "mix"] * trainer.steps
