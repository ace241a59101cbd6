"""Normalisations and parametrised weights of ``tests.zoo``, and the network that they are put in."""

import torch
from torch import nn
from torch.nn.utils import parametrizations

WIDTH, CLASSES = 12, 4


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, CLASSES))


def norm_without_momentum() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.BatchNorm1d(8, momentum=None), nn.Linear(8, CLASSES))


def norm_without_statistics() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, CLASSES))


def norm_without_weights() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, CLASSES))


def frozen_norm() -> nn.Module:
    """Its statistics stay, since its builder left it in evaluation mode."""
    model = nn.Sequential(nn.Linear(WIDTH, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, CLASSES))
    model[1].eval()
    return model


def instance_norm() -> nn.Module:
    norm = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
    return nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.Flatten(), nn.Linear(64, CLASSES))


def old_weight_norm() -> nn.Module:
    model = mlp()
    nn.utils.weight_norm(model[1])
    return model


def weight_norm() -> nn.Module:
    model = mlp()
    parametrizations.weight_norm(model[1])
    return model


def spectral_norm() -> nn.Module:
    model = mlp()
    parametrizations.spectral_norm(model[1])
    return model


def old_spectral_norm() -> nn.Module:
    model = mlp()
    nn.utils.spectral_norm(model[1])
    return model


def orthogonal() -> nn.Module:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, CLASSES))
    parametrizations.orthogonal(model[0])
    return model


def layer_norm() -> nn.Module:
    return nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 8), nn.GELU(), nn.Linear(8, CLASSES))


def group_norm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.Linear(64, CLASSES))


class RunningScale(nn.Module):
    """A buffer that each pass replaces by another tensor, and a counter."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        self.layers = mlp()

    def forward(self, x):
        if self.training:
            self.scale = 0.9 * self.scale + 0.1 * x.detach().square().mean()
            self.passes += 1
        return self.layers(x / self.scale)
