"""The seconds that a benchmark compares."""

import time

import torch


def clock(device: str) -> float:
    """Of the processor on a CPU, which other work does not stretch, or of the wall."""
    if device.startswith('cuda'):
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
