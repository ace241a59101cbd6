"""The notebook's cells run from top to bottom on a store of smoke runs, and it is committed with what they showed."""

import json
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = json.loads((ROOT / "figures" / "explore.ipynb").read_text(encoding="utf-8"))
CELLS = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    from aldsgd.listings import write_experiment
    from aldsgd.records import RunStore
    from experiments.convergence import configurations
    from experiments.options import Execution
    from experiments.runner import train_run

    root = tmp_path_factory.mktemp("smoke")
    execution = Execution(checkpoint_every=0, quiet=True)
    entries = configurations("smoke", 0)
    for _, config in entries:
        train_run(RunStore(root), config, execution)
    write_experiment(root, "convergence", "smoke", [(label, 0, config.record()) for label, config in entries])
    return root


def test_every_cell_runs_on_smoke_results(smoke, monkeypatch):
    monkeypatch.setenv("ALDSGD_RESULTS", str(smoke))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(ROOT / "figures" / "explore.ipynb", as_version=4)
    client = nbclient.NotebookClient(book, kernel_name="python3", resources={"metadata": {"path": ROOT / "figures"}})
    client.execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert "10 complete runs" in "".join(output.get("text", "") for output in outputs)
    assert sum("image/png" in output.get("data", ()) for output in outputs) == 3


def test_it_is_committed_with_outputs_and_without_paths_of_a_machine():
    assert all(cell["execution_count"] for cell in CELLS), "run it: jupyter execute figures/explore.ipynb --inplace"
    kinds = [set(output.get("data", ())) for cell in CELLS for output in cell["outputs"]]
    assert sum("image/png" in kind for kind in kinds) >= 3
    text = json.dumps(
        [output for cell in CELLS for output in cell["outputs"] if "image/png" not in output.get("data", ())]
    )
    assert "/home/" not in text and "Traceback" not in text and "Error" not in text
