"""Writes a recipe as a config that trains as it is, with the reasons beside the lines.

The config inherits from the host only, so that it can lie anywhere; what it takes from
the package's own base files (small backbone, schedule) is written out in it.
"""

import runpy
from typing import Any

from mmdet_imbalance.cli.config import find_config
from mmdet_imbalance.core.class_histogram import number
from mmdet_imbalance.recommendation.config_data import (
    image_scale,
    train_loader,
    train_pipeline,
    validation,
)
from mmdet_imbalance.recommendation.plan import ConfigPlan
from mmdet_imbalance.recommendation.profile import Profile
from mmdet_imbalance.recommendation.python_text import Code, assignment, comment
from mmdet_imbalance.recommendation.rules import PREFIX

NUM_CLASSES = Code('num_classes')


def config_text(plan: ConfigPlan) -> str:
    """Source of the config."""
    schedule, bases = _schedule(plan)
    comments = _comments(plan)
    classes = tuple(plan.profile.stats.class_names)
    parts = [
        comment(*plan.title, *_figures(plan.profile)),
        assignment('_base_', bases),
        assignment('data_root', plan.data_root),
        assignment('classes', classes),
        assignment('num_classes', Code('len(classes)')),
        assignment('model', _model(plan), comments),
        assignment('train_pipeline', train_pipeline(plan), comments),
        assignment('train_dataloader', train_loader(plan), comments),
    ]
    parts += validation(plan)
    parts += [assignment(name, value, comments) for name, value in schedule.items()]
    parts.append(assignment('default_hooks', dict(checkpoint=dict(max_keep_ckpts=2))))
    parts.append(assignment('custom_hooks', _hooks(plan), comments))
    return '\n\n'.join(parts) + '\n'


# --- the parts --------------------------------------------------------------------
def _figures(profile: Profile) -> list[str]:
    stats = profile.stats
    groups = ', '.join(
        f'{int((stats.groups_by_count() == g).sum())} {name}'
        for g, name in (('f', 'frequent'), ('c', 'common'), ('r', 'rare'))
    )
    return [
        f'{stats.num_images} images, {profile.num_objects} objects, '
        f'{stats.num_classes} classes ({groups}); imbalance factor '
        f'{number(stats.imbalance_factor())} by objects, '
        f'{number(stats.imbalance_factor("img_count"))} by images; Gini '
        f'{profile.gini:.2f}.'
    ]


def _own_base(kind: str, name: str) -> dict[str, Any]:
    """Variables of a base file of the package, without what it inherits."""
    path = find_config(f'configs/_base_/{kind}/{name}.py')
    return {
        key: value
        for key, value in runpy.run_path(str(path)).items()
        if not key.startswith('_')
    }


def _schedule(plan: ConfigPlan) -> tuple[dict[str, Any], list[str]]:
    bases = [
        f'mmdet::_base_/models/{plan.base}_r50_fpn.py',
        'mmdet::_base_/default_runtime.py',
    ]
    if plan.backbone == 'r50':
        bases.append('mmdet::_base_/schedules/schedule_1x.py')
        schedule: dict[str, Any] = {
            'auto_scale_lr': dict(enable=True, base_batch_size=16),
            'optim_wrapper': dict(clip_grad=dict(max_norm=35, norm_type=2)),
        }
    else:
        own = _own_base('schedules', 'adamw_10e')
        schedule = {
            name: own[name]
            for name in ('train_cfg', 'optim_wrapper', 'param_scheduler')
        }
        schedule['auto_scale_lr'] = own['auto_scale_lr']
        if plan.val is not None:
            schedule |= {name: own[name] for name in ('val_cfg', 'test_cfg')}
    if 'cls_predictor_cfg' in plan.recipe.loss_arguments:
        # Decay would draw the bias away from its prior.
        paramwise = schedule['optim_wrapper'].setdefault('paramwise_cfg', {})
        paramwise.setdefault('custom_keys', {})['fc_cls.bias'] = dict(decay_mult=0.0)
    return schedule, bases


def _model(plan: ConfigPlan) -> dict[str, Any]:
    model: dict[str, Any] = {}
    if plan.backbone != 'r50':
        model = _own_base('models', f'{plan.base}_{plan.backbone}_fpn')['model']
    recipe = plan.recipe
    if plan.base == 'faster-rcnn':
        outer = model.setdefault('roi_head', {})
        head = outer.setdefault('bbox_head', {})
    else:
        outer = head = model.setdefault('bbox_head', {})
    head['num_classes'] = NUM_CLASSES
    if recipe.head is not None:
        outer['type'] = recipe.head
    head.update(recipe.loss_arguments)
    if recipe.loss is not None:
        head['loss_cls'] = dict(
            _delete_=True, **{**recipe.loss, 'num_classes': NUM_CLASSES}
        )
    if plan.base == 'retinanet' and recipe.loss is not None:
        # Starts at a probability of 1/C.
        head['init_cfg'] = dict(
            type='Normal',
            layer='Conv2d',
            std=0.01,
            override=dict(
                type='Normal',
                name='retina_cls',
                std=0.01,
                bias_prob=Code('min(0.01, 1 / num_classes)'),
            ),
        )
    return model


def _hooks(plan: ConfigPlan) -> list[dict[str, Any]]:
    hooks = [dict(type=PREFIX + 'ClassStatsHook')]
    if plan.recipe.sampler is not None:
        hooks.append(dict(type=PREFIX + 'DataSamplerHook'))
    return hooks


def _comments(plan: ConfigPlan) -> dict[str, list[str]]:
    recipe, reasons = plan.recipe, plan.recipe.reasons
    is_faster = plan.base == 'faster-rcnn'
    outer = 'model.roi_head' if is_faster else 'model.bbox_head'
    head = 'model.roi_head.bbox_head' if is_faster else 'model.bbox_head'
    found = {
        f'{head}.loss_cls': reasons.get('loss', []),
        f'{outer}.type': reasons.get('head', []),
        'train_dataloader.sampler': reasons.get('sampler', []),
        'train_dataloader.dataset': [
            *reasons.get('dataset', []),
            *(
                [f'{plan.profile.num_empty} images without objects are left out.']
                if plan.profile.num_empty
                else []
            ),
        ],
        f'{head}.reg_class_agnostic': ['All labels of an object share its box.'],
        f'{head}.cls_predictor_cfg': ['Starts at a probability of 1/C.'],
        f'{head}.init_cfg': ['Starts at a low probability, as for focal loss.'],
        'model.backbone': ['The small pretrained backbone of the package.'],
        'train_pipeline': [_scale_reason(plan)],
        'custom_hooks': ['Counts the classes once, and hands them to whoever asks.'],
        'train_cfg': [
            'Ten epochs of AdamW for a pretrained backbone under new heads; more, if '
            'the validation still rises.'
        ],
        'auto_scale_lr': [
            'The learning rate is for 16 images a step: scaled to the real number.'
        ],
    }
    if plan.backbone != 'r50':
        found.pop('auto_scale_lr')
    if recipe.is_stock:
        found['model'] = ['The stock detector: nothing in the data asks for more.']
    return {path: text for path, text in found.items() if text}


def _scale_reason(plan: ConfigPlan) -> str:
    scale, size = image_scale(plan), plan.profile.box_size
    if not size > 0:
        return 'Sizes of the images are unknown: the scale is a guess.'
    return (
        f'Half of the boxes are smaller than {100 * size:.2g} % of the longer side: '
        f'{size * scale[0]:.0f} px at this scale.'
    )
