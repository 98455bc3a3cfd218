_base_ = './retinanet_r50_fpn_ghm_1x_coco.py'
# A density for each level of the pyramid, as the authors' code and the host have it.
model = dict(bbox_head=dict(joint_levels=False))
