"""Adjacent Leader Decentralized SGD (arXiv 2405.11389): the method as a library.

Names are imported on first use, so that reading records and drawing figures never loads torch.
"""

from importlib import import_module

_HOME = {
    "ALDSGD": "leaders",
    "Algorithm": "algorithm",
    "ConfigError": "errors",
    "Data": "datasets",
    "Rotation": "graphs",
    "Settings": "training",
    "Topology": "graphs",
    "Trainer": "training",
    "load": "datasets",
    "train": "training",
}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'aldsgd' has no attribute '{name}'")
    return getattr(import_module(f"aldsgd.{_HOME[name]}"), name)
