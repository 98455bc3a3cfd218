"""How evenly the objects of a class spread over the image: box-counting dimension.

Alexandridis et al., "Fractal Calibration for Long-tailed Object Detection", CVPR 2025,
https://arxiv.org/abs/2410.11774, section 3: an image is cut into G x G cells; the
dimension is the slope of log(cells in which the class has the centre of an object,
anywhere in the training set) over log(G). 2 is an even spread, 1 a line, 0 one place.

The paper's quadratic rule: only grids with at most as many cells as the class has
objects count, because fewer objects cannot fill more cells; a class with fewer than
four objects has no second grid and gets 1.

Shapes: M objects, C classes. Deviations: none from the authors' code, which also raises
slopes below 1 to 1 (a division by the dimension would explode); a centre outside the
image counts for the nearest cell.
"""

import numpy as np

#: Finest grid of the authors' code: 64 x 64 cells.
FINEST_GRID = 64
#: Of classes with too few objects, and the smallest of all others.
LEAST = 1.0


def fractal_dimension(
    centers: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    finest_grid: int = FINEST_GRID,
) -> np.ndarray:
    """Box-counting dimension of the places of each class.

    Args:
        centers: x and y of each object as fractions of the width and height of its
            image, shape (M, 2).
        labels: shape (M,), values in [0, C).
        num_classes: number C of classes.
        finest_grid: cells on a side of the finest grid, at least 2.

    Returns:
        In [1, 2], shape (C,).
    """
    if centers.shape != (len(labels), 2):
        raise ValueError(
            f'`centers` must have shape ({len(labels)}, 2), got {centers.shape}'
        )
    if finest_grid < 2:
        raise ValueError(f'`finest_grid` must be at least 2, got {finest_grid}')
    num_objects = np.bincount(labels, minlength=num_classes)
    # Sums of a least-squares line through (log G, log cells), for all classes at once.
    count, x_sum, y_sum, xx_sum, xy_sum = np.zeros((5, num_classes))
    for grid in range(1, finest_grid + 1):
        fits = num_objects >= grid * grid
        if not fits.any():
            break
        cell = np.clip((centers * grid).astype(np.int64), 0, grid - 1)
        place = (labels * grid + cell[:, 1]) * grid + cell[:, 0]
        filled = np.bincount(np.unique(place) // grid**2, minlength=num_classes)
        x, y = np.log(grid), np.log(np.maximum(filled, 1))
        count += fits
        x_sum += fits * x
        y_sum += fits * y
        xx_sum += fits * x * x
        xy_sum += fits * x * y
    spread = count * xx_sum - x_sum**2
    slope = np.divide(
        count * xy_sum - x_sum * y_sum,
        spread,
        out=np.full(num_classes, LEAST),
        where=count > 1,
    )
    return np.maximum(slope, LEAST)
