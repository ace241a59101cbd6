"""Adjacent Leader Decentralized SGD (arXiv 2405.11389): the method as a library.

Names are imported on first use, so that reading records and drawing figures never loads torch.
"""

from importlib import import_module

_HOME = {
    "ALDSGD": "leaders",
    "Algorithm": "algorithm",
    "AllReduce": "links",
    "Arcs": "links",
    "Broadcast": "links",
    "ConfigError": "errors",
    "Data": "datasets",
    "Exchange": "step",
    "Gossip": "step",
    "Pairs": "links",
    "Reduce": "links",
    "Rotation": "graphs",
    "Settings": "settings",
    "Step": "step",
    "Topology": "graphs",
    "Trainer": "training",
    "load": "datasets",
    "load_model": "saving",
    "train": "training",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'aldsgd' has no attribute '{name}'")
    return getattr(import_module(f"aldsgd.{_HOME[name]}"), name)
