"""RoI heads; importing the package registers them."""

from mmdet_imbalance.models.roi_heads.imbalance_roi_head import ImbalanceRoIHead

__all__ = ['ImbalanceRoIHead']
