"""Dense heads; importing the package registers them."""

from mmdet_imbalance.models.dense_heads.imbalance_retina_head import ImbalanceRetinaHead

__all__ = ['ImbalanceRetinaHead']
