"""The precision that formulas are computed in, whatever comes in.

Half precision overflows at 65,504 and keeps three digits: counts, exponentials and
squared distances need more. Shapes: any. Deviations: none, this is plumbing.
"""

import torch
from torch import Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor as float32; float64 stays, so that gradients can be checked."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context in which autocast does not take matrix products to half precision."""
    return torch.autocast(tensor.device.type, enabled=False)
