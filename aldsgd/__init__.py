"""Adjacent Leader Decentralized SGD (arXiv 2405.11389): the method as a library.

Names are imported on first use, so that reading records and drawing figures never loads torch.
"""

from importlib import import_module

from aldsgd.parts import ready

__version__ = "0.2.0"

_HOME = {
    "ALDSGD": "aldsgd.leaders",
    "Algorithm": "aldsgd.algorithm",
    "AllReduce": "aldsgd.links",
    "Arcs": "aldsgd.links",
    "Broadcast": "aldsgd.links",
    "ConfigError": "aldsgd.errors",
    "Data": "aldsgd.datasets",
    "DPSGD": "baselines.dpsgd",
    "Exchange": "aldsgd.step",
    "Gossip": "aldsgd.step",
    "load": "aldsgd.datasets",
    "load_model": "aldsgd.saving",
    "MATCHA": "baselines.matcha",
    "Pairs": "aldsgd.links",
    "Reduce": "aldsgd.links",
    "Result": "aldsgd.result",
    "Rotation": "aldsgd.graphs",
    "Settings": "aldsgd.settings",
    "Step": "aldsgd.step",
    "Topology": "aldsgd.graphs",
    "train": "aldsgd.trainers",
    "Trainer": "aldsgd.training",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'aldsgd' has no attribute '{name}'")
    if not _HOME[name].startswith("aldsgd."):
        ready()
    return getattr(import_module(_HOME[name]), name)
