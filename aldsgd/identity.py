"""What tells one run from another, so that none goes on from another's checkpoint."""

import hashlib
import json
import re
from dataclasses import asdict, fields
from functools import partial

from aldsgd.algorithm import Algorithm
from aldsgd.datasets import content_hash
from aldsgd.settings import Settings, several
from aldsgd.step import Step

#: Settings that came after the first checkpoints, which know nothing of them, and what they stand for there.
LATER = {
    "also": (), "interim_images": None, "split_seed": None, "personalised": False, "fault": None, "faulty": (),
    "lies": False, "fault_strength": None, "fault_from": 0, "defence": "none", "radius": 1.0, "trim": 1,
    "lead_cap": None, "clock": None, "real": False,
}  # fmt: skip
#: Decimals that all processors agree on.
DIGITS = 10
#: A number as Python writes it, unless it is whole.
FRACTION = re.compile(r"-?\d+(\.\d+(e[-+]?\d+)?|e[-+]?\d+)")


def identity_of(trainer) -> dict:
    """What tells this run from others, for its checkpoints (JSON-able)."""
    own = {f.name: getattr(trainer.settings, f.name) for f in fields(Settings) if f.name not in ("device", "engine")}
    shards = hashlib.sha256(repr([shard.tolist() for shard in trainer.batches.shards]).encode()).hexdigest()[:16]
    return {
        "method": type(trainer.algorithm).__name__,
        "workers": trainer.algorithm.n,
        "parameters": trainer.state.x.shape[1],
        "exchanges": exchanges_hash(trainer.algorithm, trainer.steps),
        "model": hashlib.sha256(repr(trainer.workers.modules[0]).encode()).hexdigest()[:16],
        "data": content_hash(trainer.data),
        "normalisation": [None if v is None else v.tolist() for v in (trainer.data.mean, trainer.data.std)],
        "loss": _described(trainer.task.loss),
        "shards": shards,
        "link": asdict(trainer.settings.link),
        **{
            name: _described(value)
            for name, value in own.items()
            if name not in ("link", "split") and LATER.get(name, ...) != value
        },
    }


def exchanges_hash(algorithm: Algorithm, steps_per_epoch: int) -> str:
    """Hash of a method's first steps and of the weights that it worked out."""
    described = json.dumps(algorithm.description(), sort_keys=True, default=str)
    steps = json.dumps([text_of(algorithm.step(t)) for t in range(min(8, steps_per_epoch))])
    return hashlib.sha256((agreed(steps) + agreed(described)).encode()).hexdigest()[:16]


def agreed(text: str) -> str:
    """Text with its numbers to DIGITS decimals: what is worked out, such as eigenvalues, ends differently on different
    processors, and a run that was cut off may go on on another one."""
    # Adding zero turns -0.0 into 0.0.
    return FRACTION.sub(lambda found: str(round(float(found[0]), DIGITS) + 0.0), text)


def text_of(step: Step) -> str:
    """A step as text, which a judge other than the first one has joined since there were checkpoints."""
    return repr(step) + (f" judged by {step.judge}" if step.judge != "batch" else "")


def _described(value):
    """A setting as JSON holds it: functions by their name, tuples as lists."""
    if several(value):
        return [_described(entry) for entry in value]
    if isinstance(value, partial):
        return [_described(value.func), repr(value.args), repr(value.keywords)]
    plain = value is None or isinstance(value, bool | int | float | str)
    return value if plain else getattr(value, "__qualname__", repr(value))
