"""Visualisers; importing the package registers them."""

from mmdet_imbalance.visualization.hierarchy_figure import hierarchy_figure
from mmdet_imbalance.visualization.label_set_visualizer import LabelSetVisualizer

__all__ = ['LabelSetVisualizer', 'hierarchy_figure']
