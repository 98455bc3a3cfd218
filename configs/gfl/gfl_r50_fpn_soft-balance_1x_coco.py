_base_ = 'mmdet::gfl/gfl_r50_fpn_1x_coco.py'
# The host's head unchanged; images are chosen by class from epoch 8 on.
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='mmdet_imbalance.SoftBalanceSampler',
        schedule=[(0, 0.0), (8, 0.7)]))
custom_hooks = [dict(type='mmdet_imbalance.DataSamplerHook')]
