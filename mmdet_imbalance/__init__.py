"""Extension package that makes MMDetection good at imbalanced detection data.

Importing the package is light: it loads neither torch nor the host.  The pure
functions are in `mmdet_imbalance.functional`; everything that a config names
(`type='mmdet_imbalance.ConcurrentSoftmaxLoss'`) is found through
`mmdet_imbalance.registry`, which the host imports by itself.
"""

from mmdet_imbalance.version import __version__

__all__ = ['__version__']
