"""A read-only matrix of class relations that may stand in a dataset's metainfo.

The host compares metainfo of joined datasets with `!=` inside an `if`, which fails on
an array; and it copies the whole metainfo at every access. Compared with another
relation matrix, this one gives a single truth value; copied, it gives itself. In every
other respect it is a numpy array. Pickled (in a checkpoint) it is a plain array, so a
checkpoint can be read without this package.
"""

import numpy as np


class RelationMatrix(np.ndarray):
    """Bool (C, C), [child, ancestor]; see the module's text."""

    def __new__(cls, matrix) -> 'RelationMatrix':
        """Copy any (C, C) matrix; what is not 0 is a relation."""
        own = np.array(matrix, dtype=bool).view(cls)
        own.flags.writeable = False
        return own

    def __eq__(self, other):
        if isinstance(other, RelationMatrix):
            return np.array_equal(np.asarray(self), np.asarray(other))
        return np.asarray(self) == other

    def __ne__(self, other):
        if isinstance(other, RelationMatrix):
            return not self == other
        return np.asarray(self) != other

    __hash__ = None

    def __getitem__(self, key):
        return np.asarray(self)[key]

    def __array_wrap__(self, array, context=None, return_scalar=False):
        array = np.asarray(array)
        return array[()] if return_scalar else array

    def __copy__(self) -> 'RelationMatrix':
        return self

    def __deepcopy__(self, memo) -> 'RelationMatrix':
        return self

    def __reduce__(self):
        return np.asarray(self).__reduce__()
