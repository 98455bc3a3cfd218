_base_ = './retinanet_efficientnet-lite0_fpn_gfl_10e_hdbpmn.py'
# Counts come from the training set.
model = dict(
    bbox_head=dict(
        loss_cls=dict(class_weight=dict(type='effective_num', beta=0.999))))
