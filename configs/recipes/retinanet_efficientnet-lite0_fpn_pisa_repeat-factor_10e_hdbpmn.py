_base_ = '../pisa/retinanet_efficientnet-lite0_fpn_pisa_10e_hdbpmn.py'
# Which weight: prime samples. Which images: classes on less than a tenth of them are
# repeated.
train_dataloader = dict(
    sampler=dict(
        _delete_=True,
        type='mmdet_imbalance.RepeatFactorSampler',
        oversample_thr=0.1))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='mmdet_imbalance.DataSamplerHook')
]
