_base_ = './retinanet_r50_fpn_gfl_1x_lvis-v1.py'
# Counts come from the training set.
model = dict(
    bbox_head=dict(
        loss_cls=dict(class_weight=dict(type='effective_num', beta=0.999))))
