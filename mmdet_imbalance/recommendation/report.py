"""Prints an imbalance profile and a recipe."""

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmdet_imbalance.core.class_histogram import GROUP_NAMES, number
from mmdet_imbalance.recommendation.profile import Profile
from mmdet_imbalance.recommendation.rules import Recipe

NUM_PAIRS = 5
NUM_RAREST = 5


def print_profile(profile: Profile, kind: str, console: Console) -> None:
    """Figures, the rarest classes with their company, label pairs, partial facts."""
    stats = profile.stats
    table = Table(title=f'Imbalance profile ({kind})', show_header=False)
    groups = stats.groups_by_count()
    rows = [
        ('images', f'{stats.num_images} ({profile.num_empty} without objects)'),
        ('objects', f'{profile.num_objects} (and {profile.num_ignored} crowds)'),
        ('classes', _classes(profile)),
        (
            'groups by images',
            ', '.join(
                f'{(groups == g).sum()} {name}' for g, name in GROUP_NAMES.items()
            ),
        ),
        ('imbalance factor, objects', number(stats.imbalance_factor())),
        ('imbalance factor, images', number(stats.imbalance_factor('img_count'))),
        ('Gini of the objects', f'{profile.gini:.3f}'),
        (
            'objects with several labels',
            f'{profile.num_several} ({100 * profile.multi_label_fraction:.2f} %), '
            f'{profile.num_unrelated} of them not one line of ancestors',
        ),
        ('hierarchy', _hierarchy(profile)),
        ('partial annotation', _partial(profile)),
        ('median box', _box(profile)),
    ]
    for name, value in rows:
        table.add_row(name, escape(str(value)))
    console.print(table)
    console.print(_rarest(profile))
    pairs = _pairs(profile)
    if pairs.row_count:
        console.print(pairs)


def print_recipe(recipe: Recipe, console: Console) -> None:
    """What is changed and why, and what was left alone."""
    table = Table(title='Recipe', show_lines=True)
    table.add_column('part')
    table.add_column('change')
    table.add_column('reason')
    for part, change in (
        ('loss', recipe.loss and recipe.loss['type']),
        ('head', recipe.head),
        ('sampler', recipe.sampler and recipe.sampler['type']),
    ):
        reason = ' '.join(recipe.reasons.get(part, []))
        table.add_row(part, str(change or 'stock'), escape(reason))
    console.print(table)
    for note in recipe.notes:
        console.print(f'- {note}', markup=False, highlight=False)
    console.print(
        'Compare with the stock config over several seeds: tools/compare.py says what '
        'is noise.',
        markup=False,
    )


def _classes(profile: Profile) -> str:
    unused = len(profile.unused_classes)
    text = str(profile.stats.num_classes)
    return text + (f' ({unused} more have no box and are left out)' if unused else '')


def _hierarchy(profile: Profile) -> str:
    num = profile.num_related
    return f'{num} pairs of class and ancestor' if num else 'none among the classes'


def _partial(profile: Profile) -> str:
    facts = profile.partial
    if not facts.source:
        return 'nothing says so'
    return (
        f'{facts.source}: {100 * facts.known:.1f} % of the (image, class) entries '
        f'decided, {facts.not_exhaustive} not exhaustive'
    )


def _box(profile: Profile) -> str:
    size = profile.box_size
    return f'{100 * size:.2g} % of the longer side' if size > 0 else 'sizes unknown'


def _rarest(profile: Profile) -> Table:
    """The rarest classes and the class that is most often on their images."""
    stats, index = profile.stats, profile.index
    image, label = index.distinct_image_labels()
    table = Table(title='Rarest classes, by images, and their most common company')
    for column in ('class', 'group', 'images', 'objects', 'company'):
        table.add_column(column, justify='left' if column == 'class' else 'right')
    order = np.argsort(stats.img_count, kind='stable')
    order = [k for k in order if stats.instance_count[k]][:NUM_RAREST]
    for k in order:
        shows = np.zeros(len(index), dtype=bool)
        shows[image[label == k]] = True
        beside = np.bincount(label[shows[image]], minlength=stats.num_classes)
        beside[k] = 0
        first = int(beside.argmax())
        company = (
            f'{stats.class_names[first]} on {beside[first]} of them'
            if beside[first]
            else 'alone'
        )
        table.add_row(
            escape(stats.class_names[k]),
            stats.freq_group[k],
            str(stats.img_count[k]),
            str(stats.instance_count[k]),
            escape(company),
        )
    return table


def _pairs(profile: Profile) -> Table:
    """Labels that stand on the same objects most often."""
    stats = profile.stats
    table = Table(title='Labels on the same object')
    for column in ('labels', 'objects', 'of the rarer'):
        table.add_column(column)
    order = np.argsort(-stats.pair_values, kind='stable')[:NUM_PAIRS]
    for at in order:
        pair = [int(stats.pair_rows[at]), int(stats.pair_cols[at])]
        count = int(stats.pair_values[at])
        rarer = min(int(stats.instance_count[k]) for k in pair)
        names = ' + '.join(stats.class_names[k] for k in pair)
        table.add_row(escape(names), str(count), f'{100 * count / rarer:.0f} %')
    return table
