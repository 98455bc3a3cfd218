_base_ = './faster-rcnn_efficientnet-lite0_fpn_class-aware-selective_10e_hdbpmn.py'
model = dict(roi_head=dict(bbox_head=dict(loss_cls=dict(mode='negative'))))
