"""What tells one run from another, so that none goes on from another's checkpoint."""

import hashlib
import json
from dataclasses import asdict, fields
from functools import partial

from aldsgd.datasets import content_hash
from aldsgd.settings import Settings, several


def identity_of(trainer) -> dict:
    """What tells this run from others, for its checkpoints (JSON-able)."""
    own = {f.name: getattr(trainer.settings, f.name) for f in fields(Settings) if f.name not in ("device", "engine")}
    shards = hashlib.sha256(repr([shard.tolist() for shard in trainer.batches.shards]).encode()).hexdigest()[:16]
    described = json.dumps(trainer.algorithm.description(), sort_keys=True, default=str)
    steps = json.dumps([repr(trainer.algorithm.step(t)) for t in range(min(8, trainer.steps))])
    return {
        "method": type(trainer.algorithm).__name__,
        "workers": trainer.algorithm.n,
        "parameters": trainer.state.x.shape[1],
        "exchanges": hashlib.sha256((steps + described).encode()).hexdigest()[:16],
        "model": hashlib.sha256(repr(trainer.workers.modules[0]).encode()).hexdigest()[:16],
        "data": content_hash(trainer.data),
        "normalisation": [None if v is None else v.tolist() for v in (trainer.data.mean, trainer.data.std)],
        "loss": _described(trainer.task.loss),
        "shards": shards,
        "link": asdict(trainer.settings.link),
        **{name: _described(value) for name, value in own.items() if name not in ("link", "split")},
    }


def _described(value):
    """A setting as JSON holds it: functions by their name, tuples as lists."""
    if several(value):
        return [_described(entry) for entry in value]
    if isinstance(value, partial):
        return [_described(value.func), repr(value.args), repr(value.keywords)]
    plain = value is None or isinstance(value, bool | int | float | str)
    return value if plain else getattr(value, "__qualname__", repr(value))
