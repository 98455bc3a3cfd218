_base_ = 'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py'
num_classes = 80
# A list is replaced as a whole: the three heads of the host with another loss.
bbox_head = _base_.model.roi_head.bbox_head
for head in bbox_head:
    head.loss_cls = dict(
        type='mmdet_imbalance.ConcurrentSoftmaxLoss', num_classes=num_classes)
model = dict(roi_head=dict(bbox_head=bbox_head))
custom_hooks = [dict(type='mmdet_imbalance.ClassStatsHook')]
