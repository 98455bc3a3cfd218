"""Work on a few rows at a time, so that temporaries stay small.

Elementwise chains of a dozen steps over (N, C) are bound by memory: in blocks that fit
the cache they are faster on a CPU, and nowhere do they need a dozen matrices.

Shapes: N rows, C columns. Deviations: none.
"""

from collections.abc import Iterator

import torch

#: Elements of a block: 1 MB of float32 on a CPU; on a GPU a launch must pay off.
CPU_BLOCK = 2**18
GPU_BLOCK = 2**24


def row_blocks(num_rows: int, width: int, device: torch.device) -> Iterator[slice]:
    """Slices of rows that cover `num_rows`, of at least one row each.

    Args:
        num_rows: N.
        width: C.
        device: where the rows are.
    """
    elements = CPU_BLOCK if device.type == 'cpu' else GPU_BLOCK
    step = max(elements // max(width, 1), 1)
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))
