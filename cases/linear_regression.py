"""Linear regression as the tutorial builds it from PyTorch's parts, held to its closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffcheck.regression import regression

TRUE_WEIGHT = (2.0, -3.4)
TRUE_BIAS = 4.2


def synthetic_data() -> tuple[Tensor, Tensor]:
    """A thousand examples of y = Xw + b + noise, features of standard deviation 1, noise of 0.01."""
    features = torch.randn(1000, len(TRUE_WEIGHT))
    labels = features @ torch.tensor(TRUE_WEIGHT) + TRUE_BIAS
    return features, (labels + 0.01 * torch.randn(1000)).reshape(-1, 1)


def network() -> nn.Module:
    """One linear layer: its weights start near 0, its bias at 0."""
    net = nn.Sequential(nn.Linear(2, 1))
    nn.init.normal_(net[0].weight, std=0.01)
    nn.init.zeros_(net[0].bias)
    return net


linear_regression = regression(
    data=synthetic_data,
    model=network,
    loss=nn.MSELoss(),
    optimizer=torch.optim.SGD,
    learning_rate=0.03,
    batch_size=10,
    epochs=3,
    doc="Three epochs of minibatch SGD on synthetic data, against the least-squares solution",
)
