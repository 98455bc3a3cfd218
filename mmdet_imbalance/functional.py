"""The pure functions: the library without the framework.

Tensors in, tensors out; nothing registered, no state, no host needed.
"""

__all__ = []
