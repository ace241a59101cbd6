"""A script of the user's that calls the library and saves the models, alone and under torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from aldsgd.saving import load_state
from tests.test_readme import listing

ROOT = Path(__file__).parents[1]
# The listing of docs/machines.md, twice more in float64, and what each process has in the end.
SCRIPT = f"""{listing("processes")}
import json, sys

options = dict(epochs=2, lr=0.1, precision="float64")
exact = [train(ALDSGD(DPSGD(ring)), model, data, **options, momentum=m) for m in (0, 0.9)]
exact[0].save(sys.argv[1] + "_models")
kept = [[{{k: v for k, v in row.items() if "seconds" not in k}} for row in found.rows] for found in exact]
open(sys.argv[1] + os.environ.get("RANK", ""), "w").write(json.dumps([kept, len(result.workers.modules), result.final]))
"""


def test_the_same_script_is_spread_over_the_processes_of_torchrun(tmp_path):
    (tmp_path / "own.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    alone = [sys.executable, "own.py", "alone"]
    spread = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "own.py", "rank"]
    for command in (alone, spread):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    (rows, hosted, _), *ranks = (json.loads((tmp_path / name).read_text()) for name in ("alone", "rank0", "rank1"))
    assert hosted == 4 and len(listing("processes").splitlines()) <= 25
    assert "process 0 hosts 2 of 4; worst" in done.stdout and "process 1 hosts 2 of 4; worst" in done.stdout
    assert ranks[0][2] == ranks[1][2], "both have the rows of the whole network"
    for found, hosts, _ in ranks:
        assert hosts == 2
        for one, other in zip(rows, found, strict=True):
            for expected, row in zip(one, other, strict=True):
                assert expected.keys() == row.keys()
                for name, value in expected.items():
                    assert value == row[name] or abs(value - row[name]) <= 1e-9 * abs(value), name
    whole, parts = (tmp_path / f"{name}_models" for name in ("alone", "rank"))
    assert sorted(file.name for file in whole.iterdir()) == sorted(file.name for file in parts.iterdir())
    for file in ("averaged", *(f"worker-{i:04d}" for i in range(4))):
        one, two = (load_state(folder / f"{file}.safetensors") for folder in (whole, parts))
        torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-12)
