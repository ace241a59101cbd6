"""A script of the user's that calls the library, alone and under torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = """
import json, os, sys
from torch import nn
from aldsgd import ALDSGD, Topology, load, train
from baselines.dpsgd import DPSGD

if __name__ == "__main__":
    graph = Topology.from_edges(4, [(0, 1), (1, 2), (2, 3), (3, 0)])
    build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    data = load("digits").subset(256, 64)
    options = dict(epochs=2, lr=0.1, precision="float64")
    found = [train(ALDSGD(DPSGD(graph)), build, data, **options, momentum=m) for m in (0, 0.9)]
    kept = [[{k: v for k, v in row.items() if "seconds" not in k} for row in result.rows] for result in found]
    out = sys.argv[1] + os.environ.get("RANK", "")
    open(out, "w").write(json.dumps([kept, [len(result.workers.modules) for result in found]]))
"""


def test_the_same_script_is_spread_over_the_processes_of_torchrun(tmp_path):
    (tmp_path / "own.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    alone = [sys.executable, "own.py", "alone"]
    spread = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "own.py", "rank"]
    for command in (alone, spread):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    (rows, hosted), *ranks = (json.loads((tmp_path / name).read_text()) for name in ("alone", "rank0", "rank1"))
    assert hosted == [4, 4]
    for found, hosts in ranks:
        assert hosts == [2, 2]
        for one, other in zip(rows, found, strict=True):
            for expected, row in zip(one, other, strict=True):
                assert expected.keys() == row.keys()
                for name, value in expected.items():
                    assert value == row[name] or abs(value - row[name]) <= 1e-9 * abs(value), name
