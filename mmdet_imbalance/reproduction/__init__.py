"""From a table file to a table: which runs it needs, running them, writing it up.

Light on purpose, as `mmdet_imbalance.cli`: torch and the host are imported where they
are needed.
"""
