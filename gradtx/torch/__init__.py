"""PyTorch's names, defaults and numbers, laid out as PyTorch lays them out; torch itself is not needed."""

from gradtx.torch import nn as nn
from gradtx.torch import optim as optim
