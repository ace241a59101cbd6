"""Models on disk: written, loaded, predicting the same; weights to start from, and layers that stay."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from aldsgd import ALDSGD, ConfigError, load, load_model, models, train
from aldsgd.graphs import ring
from aldsgd.records import RunStore
from aldsgd.saving import fitted, frozen, initialised, load_state, save_state
from baselines.dpsgd import DPSGD
from baselines.single import Single
from experiments import run
from experiments.configuration import RunConfig
from experiments.options import Execution
from experiments.runner import train_run
from tests.calling import call

ROOT = Path(__file__).resolve().parents[1]
DATA = load("digits").subset(400, 100)


def cnn():
    return models.build("cnn", 10, (1, 8, 8))


def tied():
    """Two layers that share their weight, one of which is frozen with it, and a buffer."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 10))
    model[3].weight = model[1].weight
    model.register_buffer("seen", torch.arange(3))
    return model


def accuracy(saved, data):
    return (saved(data.test_inputs).argmax(1) == data.test_targets).double().mean().item()


@pytest.fixture(scope="module")
def result():
    return train(ALDSGD(DPSGD(ring(4))), cnn, DATA, epochs=2, lr=0.1, augment=True)


def test_what_is_saved_predicts_what_was_tested(result, tmp_path):
    folder = result.save(tmp_path / "models")
    assert sorted(path.name for path in folder.iterdir()) == [
        "averaged.safetensors", "model.json", *(f"worker-{i:04d}.safetensors" for i in range(4)),
    ]  # fmt: skip
    assert accuracy(load_model(folder, build=cnn), DATA) == result.final["averaged_accuracy"]
    last = [row for row in result.rows if row["epoch"] == 2 and row["worker"] is not None]
    for row in last:
        assert accuracy(load_model(folder, row["worker"], cnn), DATA) == row["test_accuracy"]
    about = json.loads((folder / "model.json").read_text())
    assert about["final"] == result.final and about["shape"] == [1, 8, 8] and about["model"] is None
    model = load_model(folder, build=cnn).model
    assert not model.training and not any(module.training for module in model.modules())


def test_the_averaged_model_is_the_mean_with_the_statistics_that_were_tested(result):
    model, workers = result.averaged_model(), result.workers
    mean = workers.parameters.double().mean(dim=0)
    row = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    assert torch.equal(row, mean.float()) and not model.training
    before = [{name: value.clone() for name, value in m.state_dict().items()} for m in workers.modules]
    again = result.averaged_model()
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert value.untyped_storage().data_ptr() != again.state_dict()[name].untyped_storage().data_ptr()
    for module, kept in zip(workers.modules, before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items())


def test_tied_weights_and_buffers_come_back(tmp_path):
    done = train(Single(2), tied, DATA, epochs=1, lr=0.05)
    folder = done.save(tmp_path)
    model = load_model(folder, 1, tied).model
    assert model[3].weight is model[1].weight and model.seen.tolist() == [0, 1, 2]
    assert torch.equal(model[1].weight, done.workers.modules[1][1].weight)
    kept = load_state(folder / "worker-0001.safetensors")
    assert {value.untyped_storage().nbytes() for value in kept.values()} == {v.nbytes for v in kept.values()}


def test_a_run_keeps_its_models_and_another_starts_from_them(tmp_path):
    options = ["--model", "cnn", "--train-images", "300", "--test-images", "100", "--workers", "2", "--epochs", "1",
               "--method", "single", "--lr", "0.1", "--threads", "1", "--results", str(tmp_path)]  # fmt: skip
    assert call(run, *options, "--save-models", tmp_path / "models").code == 0
    (folder,) = (tmp_path / "models").iterdir()
    (first,) = RunStore(tmp_path).runs()
    assert folder.name == first.csv.stem
    saved = load_model(folder)  # a model of the package is built by its name
    assert accuracy(saved, load("digits").subset(300, 100)) == first.final["averaged_accuracy"]
    start = ["--init", str(folder / "averaged.safetensors"), "--freeze", "0.", "3."]
    assert call(run, *options, *start, "--save-models", tmp_path / "tuned").code == 0
    (tuned,) = (tmp_path / "tuned").iterdir()
    kept, moved = load_state(folder / "averaged.safetensors"), load_state(tuned / "worker-0001.safetensors")
    assert torch.equal(kept["0.weight"], moved["0.weight"]) and torch.equal(kept["3.weight"], moved["3.weight"])
    assert not torch.equal(kept["6.weight"], moved["6.weight"])


def test_other_weights_are_another_run(tmp_path):
    save_state(tmp_path / "a.safetensors", cnn().state_dict())
    config = RunConfig(model="cnn", init=str(tmp_path / "a.safetensors"))
    key = config.key
    assert key != RunConfig(model="cnn").key and config.build(DATA)().state_dict().keys() == cnn().state_dict().keys()
    save_state(tmp_path / "a.safetensors", cnn().state_dict())
    assert config.key != key
    assert RunConfig(model="cnn", freeze=("0.",)).key != RunConfig(model="cnn").key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(init="nowhere.safetensors"), "nowhere.safetensors cannot be read"),
        (dict(init=__file__), "holds no saved model"),
        (dict(freeze=("body.",)), "no parameter of the model begins with 'body.'; its parts are: 0, 1, 3"),
        (dict(freeze=("",)), "no trainable parameters"),
    ],
)
def test_weights_that_are_not_there_are_one_sentence(changes, message, tmp_path):
    config = RunConfig(model="cnn", train_images=100, test_images=50, epochs=1).but(**changes)
    with pytest.raises(ConfigError, match=message) as caught:
        train_run(RunStore(tmp_path), config, Execution(results=str(tmp_path), quiet=True))
    assert "\n" not in str(caught.value)


def test_models_that_do_not_fit_are_one_sentence(result, tmp_path):
    folder = result.save(tmp_path)
    wide = lambda: models.build("resnet_small", 10, (1, 8, 8))  # noqa: E731
    for arguments, message in (
        ((folder,), "names no model that can be built; pass build"),
        ((folder, 7, cnn), "worker-0007.safetensors holds no saved model"),
        ((folder, "averaged", wide), "and the model differ in"),
        ((tmp_path / "none",), "holds no saved models"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_model(*arguments)
    with pytest.raises(ConfigError, match="0.weight has shape .* but .* in the model"):
        fitted(cnn(), models.build("cnn", 10, (3, 8, 8)).state_dict(), "x")
    (folder / "averaged.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="holds no saved model"):
        load_model(folder, build=cnn)
    with pytest.raises(ConfigError, match="cannot be written"):
        result.save(folder / "model.json" / "below")


def test_builders_compose():
    state = {name: torch.full_like(value, 0.5) for name, value in cnn().state_dict().items()}
    path = ROOT / ".cache" / "test_saving.safetensors"
    path.parent.mkdir(exist_ok=True)
    save_state(path, state)
    try:
        model = frozen(initialised(cnn, path), ("0.", "1."))()
    finally:
        path.unlink()
    assert float(model[6].weight.mean()) == 0.5
    still = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert still == {"0.weight", "1.weight", "1.bias"}
