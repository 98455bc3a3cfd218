"""Which lines of a stock config an imbalance profile changes, and why.

The rules, in order. Every threshold is a choice of ours, and none was tuned to a
result; what the changes gained on small real data stands in docs/results.md.

1. *Tail.* Nothing is done below an imbalance factor of 10 by images and of 50 by
   objects: at 25:1 by objects (aquarium) neither samplers nor weights gained more than
   noise.
2. *Sampler or weights, never both* (they multiply). A tail by images gets repeat
   factors, with the threshold at 100 images (LVIS's 0.001 of 100,000) but at most a
   tenth of them; from a factor of 1000 on, natural sampling and then soft balance.
   Where repeating gains the tail less than a quarter of its share of objects, because
   its images are full of frequent classes, and where only the objects are long-tailed,
   the loss weighs classes by effective number instead.
3. *Label sets.* If one object in a hundred bears several labels, or an annotated class
   stands above another annotated one, labels of one object must not compete: concurrent
   softmax in Faster R-CNN, a multi-label sigmoid with focal factor in RetinaNet.
   Annotated sets also need a dataset and a head that keep them.
4. *Partial annotation.* If some (image, class) entries are open, they must not count as
   negatives: the class-aware selective loss, or on LVIS-like data of 100 classes and
   more the federated loss. Both know ancestors, so they take the place of rule 3.
5. Nothing else is changed.

Shapes: C classes.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmdet_imbalance.recommendation.profile import Profile

LEAST_FACTOR_BY_IMAGES = 10.0
LEAST_FACTOR_BY_OBJECTS = 50.0
SOFT_BALANCE_FACTOR = 1000.0
LEAST_GAIN = 1.25
LEAST_MULTI_LABEL = 0.01
LEAST_MULTI_LABEL_OBJECTS = 5
MANY_CLASSES = 100
PREFIX = 'mmdet_imbalance.'
BASES = ('faster-rcnn', 'retinanet')


@dataclass
class Recipe:
    """Changes to a stock config, each with its reason.

    Attributes:
        loss: config of the classification loss; None keeps the stock one.
        loss_arguments: further arguments of the box head that go with it.
        head: type of the RoI head or dense head; None keeps the stock one.
        sampler: config of the data sampler; None keeps the stock one.
        keeps_label_sets: the dataset must join annotations of one object.
        carries_facts: the dataset must hand on what was looked for in each image.
        reasons: sentences by part: 'loss', 'head', 'sampler', 'dataset'.
        notes: what was found and changes nothing.
    """

    loss: dict[str, Any] | None = None
    loss_arguments: dict[str, Any] = field(default_factory=dict)
    head: str | None = None
    sampler: dict[str, Any] | None = None
    keeps_label_sets: bool = False
    carries_facts: bool = False
    reasons: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def is_stock(self) -> bool:
        """Whether nothing is changed."""
        return self.loss is None and self.sampler is None and self.head is None

    def because(self, part: str, reason: str) -> None:
        """Add a reason."""
        self.reasons.setdefault(part, []).append(reason)


def recommend(profile: Profile, base: str, kind: str, num_epochs: int) -> Recipe:
    """Apply the rules of the module.

    Args:
        profile: figures of the training annotation.
        base: 'faster-rcnn' or 'retinanet'.
        kind: 'coco', 'lvis' or 'open_images'.
        num_epochs: length of the training, for a schedule.

    Raises:
        ValueError: unknown `base`.
    """
    if base not in BASES:
        raise ValueError(f'`base` must be one of {BASES}, got {base!r}')
    recipe = Recipe()
    wants_weights = _balance(profile, recipe, num_epochs)
    weight = None
    if wants_weights:
        # The published values: a few thousand objects a class, or more. But not the
        # published mean: over classes, it makes objects too light beside the background
        # (configs/class_balanced).
        most = profile.stats.instance_count.max()
        weight = dict(
            type='effective_num',
            beta=0.999 if most < 10_000 else 0.9999,
            normalize='object',
        )
    if not _partial(profile, recipe, base, kind):
        _label_sets(profile, recipe, base)
    if weight is not None:
        _weigh(profile, recipe, base, weight)
    return recipe


def _balance(profile: Profile, recipe: Recipe, num_epochs: int) -> bool:
    """Rules 1 and 2; returns whether the loss is to weigh classes."""
    stats = profile.stats
    by_images = stats.imbalance_factor('img_count')
    by_objects = stats.imbalance_factor('instance_count')
    if by_images < LEAST_FACTOR_BY_IMAGES and by_objects < LEAST_FACTOR_BY_OBJECTS:
        recipe.notes.append(
            f'imbalance factor {by_images:.3g} by images and {by_objects:.3g} by '
            'objects: too small for sampling or weights to gain more than noise'
        )
        return False
    if by_images < LEAST_FACTOR_BY_IMAGES:
        recipe.because(
            'loss',
            f'Classes are alike by images ({by_images:.3g}:1) but not by objects '
            f'({by_objects:.3g}:1): drawing images cannot balance that, weights can.',
        )
        return True
    threshold = repeat_threshold(stats.num_images)
    gain = profile.sampling_gain(threshold)
    if gain < LEAST_GAIN:
        recipe.because(
            'loss',
            f'Repeating the images of rare classes would raise their share of objects '
            f'{gain:.2f} times only: they are full of frequent classes. Weights tell '
            'objects apart.',
        )
        return True
    if by_images >= SOFT_BALANCE_FACTOR:
        begin = max(1, 2 * num_epochs // 3)
        recipe.sampler = dict(
            type=PREFIX + 'SoftBalanceSampler', schedule=[(0, 0.0), (begin, 0.7)]
        )
        recipe.because(
            'sampler',
            f'Classes differ {by_images:.3g}:1 by images. All images first, then '
            'drawn towards the tail (hybrid training, arXiv 2005.08455).',
        )
        return False
    recipe.sampler = dict(type=PREFIX + 'RepeatFactorSampler', oversample_thr=threshold)
    num = int((stats.img_freq < threshold).sum())
    recipe.because(
        'sampler',
        f'Classes differ {by_images:.3g}:1 by images. Images of the {num} classes on '
        f'less than {100 * threshold:.2g} % of them are repeated (arXiv 1908.03195), '
        f'which gives those classes {gain:.2f} times their share of objects. No class '
        'weights beside it: they would multiply.',
    )
    return False


def repeat_threshold(num_images: int) -> float:
    """Fraction of images at 100 of them, within [0.001, 0.1]."""
    return float(np.clip(100 / max(num_images, 1), 0.001, 0.1))


def _partial(profile: Profile, recipe: Recipe, base: str, kind: str) -> bool:
    """Rule 4."""
    facts = profile.partial
    if not facts.is_partial:
        if facts.source:
            recipe.notes.append(
                f'{facts.source}: every class is decided on every image, so nothing '
                'is partial'
            )
        return False
    open_part = f'{100 * (1 - facts.known):.3g} % of the (image, class) entries'
    num = profile.stats.num_classes
    if kind == 'lvis' and num >= MANY_CLASSES and base == 'faster-rcnn':
        recipe.loss = dict(
            type=PREFIX + 'FederatedLoss', num_classes=num, num_sampled_classes=50
        )
        recipe.because(
            'loss',
            f'Nobody looked for {open_part} ({facts.source}): a minibatch judges 50 '
            'classes, not all (arXiv 2103.07461).',
        )
        recipe.loss_arguments['cls_predictor_cfg'] = dict(
            type=PREFIX + 'PriorBiasLinear'
        )
    else:
        recipe.loss = dict(
            type=PREFIX + 'ClassAwareSelectiveLoss',
            num_classes=num,
            # The paper's 5 are of thousands of classes.
            top_k=int(np.clip(num // 20, 1, 5)),
        )
        recipe.because(
            'loss',
            f'Nobody looked for {open_part} ({facts.source}): un-annotated is not '
            'negative (arXiv 2110.10955).',
        )
        recipe.head = _head(base)
        recipe.because('head', 'Hands the loss what was looked for in each image.')
    if base == 'retinanet':
        recipe.loss['use_sigmoid'] = True
    recipe.carries_facts = True
    recipe.because('dataset', f'Keeps {facts.source} of each image.')
    _say_tree(profile, recipe, 'the loss takes ancestors for positives')
    return True


def _label_sets(profile: Profile, recipe: Recipe, base: str) -> None:
    """Rule 3."""
    fraction, num = profile.multi_label_fraction, profile.num_several
    has_sets = fraction >= LEAST_MULTI_LABEL and num >= LEAST_MULTI_LABEL_OBJECTS
    if not has_sets and num:
        recipe.notes.append(
            f'{num} objects bear several labels, {100 * fraction:.2g} %: too few to '
            'change the loss'
        )
    if not has_sets and not profile.num_related:
        return
    classes = profile.stats.num_classes
    if base == 'faster-rcnn':
        recipe.loss = dict(type=PREFIX + 'ConcurrentSoftmaxLoss', num_classes=classes)
        # An object's labels share its box.
        recipe.loss_arguments['reg_class_agnostic'] = True
        what = 'a softmax must not make them compete (arXiv 2005.08455)'
    else:
        recipe.loss = dict(
            type=PREFIX + 'MultiLabelFocalLoss', num_classes=classes, use_sigmoid=True
        )
        what = 'a sigmoid takes each label for itself'
    if has_sets:
        recipe.because(
            'loss',
            f'{num} objects ({100 * fraction:.2g} %) bear several labels: {what}.',
        )
        recipe.keeps_label_sets = True
        recipe.head = _head(base)
        recipe.because('head', 'Hands all labels of an object to the loss.')
        recipe.because('dataset', 'Joins annotations with IoU 0.9 to one object.')
    if profile.num_related:
        recipe.because(
            'loss',
            f'{profile.num_related} annotated classes stand below another one: an '
            f'object bears both, {what}. Judge it with expand_ancestors=True too: '
            'against boxes as annotated it lost 1.3 AP on aquarium (one seed, '
            'docs/results.md), where only the most specific class is right.',
        )


def _weigh(profile: Profile, recipe: Recipe, base: str, weight: dict) -> None:
    """Put class weights on the loss that the other rules left."""
    num = profile.stats.num_classes
    if recipe.loss is not None:
        recipe.loss['class_weight'] = weight
        return
    kind = 'Softmax' if base == 'faster-rcnn' else 'Focal'
    recipe.loss = dict(
        type=f'{PREFIX}ClassBalanced{kind}Loss', num_classes=num, class_weight=weight
    )
    recipe.because(
        'loss',
        'Weights by effective number (arXiv 1901.05555), normalised to a mean of 1 '
        'over the objects.',
    )
    if base == 'retinanet':
        recipe.loss['use_sigmoid'] = True


def _head(base: str) -> str:
    kind = 'ImbalanceRoIHead' if base == 'faster-rcnn' else 'ImbalanceRetinaHead'
    return PREFIX + kind


def _say_tree(profile: Profile, recipe: Recipe, what: str) -> None:
    if profile.num_related:
        recipe.notes.append(
            f'{profile.num_related} pairs of class and ancestor: {what}'
        )
