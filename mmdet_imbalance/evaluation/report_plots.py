"""Pictures of a report.

Every function takes analyses (one a detector) and gives a matplotlib figure that
belongs to nobody's global state. Shapes: C classes.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import (
    LogLocator,
    NullFormatter,
    ScalarFormatter,
    StrMethodFormatter,
)

from mmdet_imbalance.evaluation.analysis import Analysis
from mmdet_imbalance.evaluation.error_types import ERROR_TYPES

#: Told apart by those who see no red or green, and in print.
GROUP_COLOURS = {
    'all': '#555555',
    'frequent': '#0072b2',
    'common': '#e69f00',
    'rare': '#cc3311',
}
ERROR_COLOURS = ('#cc79a7', '#e69f00', '#d55e00', '#f0e442', '#56b4e9', '#999999')


def new_figure(width: float = 4.9, height: float = 3.8) -> Figure:
    """A figure that needs no display; two of the default width stand in a row."""
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def legend_above(figure: Figure, axes: Axes, columns: int, title: str = '') -> None:
    """Legend over the axes, where it hides nothing."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles,
            [shortened(label) for label in labels],
            loc='outside upper center',
            ncols=columns,
            fontsize=8,
            title=title or None,
            title_fontsize=8,
            frameon=False,
        )


def shortened(name: str, most: int = 28) -> str:
    """A name that fits into a picture: its middle is left out if need be."""
    if len(name) <= most:
        return name
    return f'{name[: most // 2]}…{name[-(most - most // 2 - 1) :]}'


def ap_by_group(analyses: Sequence[Analysis]) -> Figure:
    """AP of every group, a bar for each detector."""
    groups = list(analyses[0].groups)
    # A number needs a third of an inch.
    bars_wide = 1.2 + 0.36 * len(analyses) * len(groups)
    figure = new_figure(width=max(4.9, bars_wide))
    axes = figure.add_subplot()
    width = 0.84 / len(analyses)
    for number, analysis in enumerate(analyses):
        values = [100 * analysis.result.ap(classes=m) for m in analysis.groups.values()]
        places = np.arange(len(groups)) + (number - (len(analyses) - 1) / 2) * width
        heights = np.maximum(values, 0)
        bars = axes.bar(places, heights, width, label=analysis.name)
        labels = [f'{v:.1f}' if v >= 0 else '-' for v in values]
        axes.bar_label(bars, labels, fontsize=7)
    numbers = [int(mask.sum()) for mask in analyses[0].groups.values()]
    ticks = [f'{g} ({n})' for g, n in zip(groups, numbers, strict=True)]
    axes.set_xticks(range(len(groups)), ticks)
    axes.margins(y=0.1)
    axes.set_ylabel('AP (%)')
    axes.set_xlabel('classes (number) by training images')
    legend_above(figure, axes, columns=2)
    return figure


def ap_against_frequency(analyses: Sequence[Analysis]) -> Figure:
    """AP of each class against how often it is trained, with a smoothed line."""
    figure = new_figure()
    axes = figure.add_subplot()
    for number, analysis in enumerate(analyses):
        ap = 100 * analysis.result.per_class()
        defined = ~np.isnan(ap)
        frequency = np.maximum(analysis.frequency[defined], 0.7)
        colour = f'C{number}'
        axes.plot(frequency, ap[defined], '.', color=colour, alpha=0.6)
        if defined.any():
            grid, line = smoothed(np.log10(frequency), ap[defined])
            axes.plot(10**grid, line, color=colour, label=analysis.name)
    axes.set_xscale('log')
    # Plain numbers, few enough not to touch each other.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=8))
    axes.xaxis.set_major_formatter(StrMethodFormatter('{x:g}'))
    axes.xaxis.set_minor_formatter(NullFormatter())
    known = analyses[0].facts.img_count is not None
    axes.set_xlabel('training images' if known else 'evaluated objects')
    axes.set_ylabel('AP (%)')
    legend_above(figure, axes, columns=2)
    return figure


def smoothed(
    x: np.ndarray, y: np.ndarray, bandwidth: float = 0.35
) -> tuple[np.ndarray, np.ndarray]:
    """Local mean with a Gaussian kernel (Nadaraya-Watson).

    Args:
        x: shape (n,), n at least 1.
        y: shape (n,).
        bandwidth: standard deviation of the kernel, in units of `x`.

    Returns:
        Grid over the range of `x` and the line there, shapes (100,).
    """
    grid = np.linspace(x.min(), x.max(), 100)
    weight = np.exp(-0.5 * ((grid[:, None] - x) / bandwidth) ** 2)
    return grid, (weight * y).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12)


def error_costs(analyses: Sequence[Analysis]) -> Figure:
    """AP50 that each type of error costs, by group."""
    groups = analyses[0].groups
    figure = new_figure(width=max(4.9, 1.5 + 0.45 * len(analyses) * len(groups)))
    axes = figure.add_subplot()
    places, names, highest = [], [], 0.0
    for row, group in enumerate(groups):
        for number, analysis in enumerate(analyses):
            gain = analysis.errors.gain(analysis.groups[group])
            # A gap stands between the groups.
            place = row * (len(analyses) + 0.6) + number
            bottom = 0.0
            for kind, colour in zip(ERROR_TYPES, ERROR_COLOURS, strict=True):
                value = max(0.0, np.nan_to_num(100 * gain[kind]))
                label = kind if not places else None
                axes.bar(place, value, bottom=bottom, color=colour, label=label)
                bottom += value
            highest = max(highest, bottom)
            places.append(place)
            own = shortened(analysis.name, 24)
            names.append(group if len(analyses) == 1 else f'{group}: {own}')
    turned = len(analyses) > 1
    axes.set_xticks(places, names, fontsize=7, rotation=90 if turned else 0)
    # Stacked bars leave no margin by themselves.
    axes.set_ylim(0, 1.05 * highest or 1)
    axes.set_ylabel('AP50 lost (%)')
    legend_above(figure, axes, columns=6)
    return figure


def reliability(analyses: Sequence[Analysis]) -> Figure:
    """Precision against score, by group; below the diagonal is overconfident."""
    figure = new_figure(width=max(4.9, 2.9 * len(analyses)), height=4.2)
    axes_row = figure.subplots(1, len(analyses), squeeze=False, sharey=True)[0]
    for axes, analysis in zip(axes_row, analyses, strict=True):
        axes.plot([0, 1], [0, 1], ':', color='#999999')
        for group, mask in analysis.groups.items():
            curve = analysis.reliability(mask)
            if curve.count.sum():
                label = f'{group}: {curve.expected_error:.3f}'
                colour = GROUP_COLOURS[group]
                axes.plot(
                    curve.confidence, curve.precision, '.-', color=colour, label=label
                )
        axes.set(xlabel='mean score', xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.set_title(shortened(analysis.name, 26), fontsize=9)
        if axes.get_legend_handles_labels()[0]:
            # Below the axes: a curve may run anywhere within.
            axes.legend(
                title='calibration error',
                fontsize=7,
                title_fontsize=7,
                ncols=2,
                frameon=False,
                loc='upper center',
                bbox_to_anchor=(0.5, -0.18),
            )
    axes_row[0].set_ylabel('precision')
    return figure


def histogram(analysis: Analysis) -> Figure:
    """Objects or training images of each class, most frequent first."""
    order = np.argsort(-analysis.frequency, kind='stable')
    named = len(order) <= 60
    figure = new_figure(width=max(4.9, 0.17 * len(order)) if named else 7.0)
    axes = figure.add_subplot()
    colours = np.array(['#555555'] * len(order), dtype=object)
    for group, mask in analysis.groups.items():
        colours[mask] = GROUP_COLOURS[group]
    axes.bar(
        range(len(order)), analysis.frequency[order], color=colours[order].tolist()
    )
    axes.set_yscale('symlog', linthresh=1)
    axes.yaxis.set_major_formatter(ScalarFormatter())
    if named:
        names = [shortened(analysis.gt.class_names[k]) for k in order]
        axes.set_xticks(range(len(order)), names, rotation=90, fontsize=7)
    else:
        axes.set_xlabel('classes, most frequent first')
    handles = [
        Patch(color=GROUP_COLOURS[group], label=f'{group} ({int(mask.sum())})')
        for group, mask in analysis.groups.items()
        if group != 'all'
    ]
    if handles:
        figure.legend(
            handles=handles,
            loc='outside upper center',
            ncols=3,
            fontsize=8,
            frameon=False,
        )
    known = analysis.facts.img_count is not None
    axes.set_ylabel('training images' if known else 'evaluated objects')
    return figure


def class_matrix(
    analysis: Analysis, values: np.ndarray, title: str, most: int = 40
) -> Figure | None:
    """Heat map of (C, C) fractions, cut to the classes that have any off the diagonal.

    Args:
        analysis: names the classes.
        values: rows are the given class, in [0, 1], shape (C, C).
        title: above the map.
        most: at most so many classes, those with the largest values.

    Returns:
        None where all is 0.
    """
    off = values * ~np.eye(len(values), dtype=bool)
    weight = np.maximum(off.max(axis=0, initial=0), off.max(axis=1, initial=0))
    chosen = np.argsort(-weight, kind='stable')[:most]
    chosen = np.sort(chosen[weight[chosen] > 0])
    if not len(chosen):
        return None
    size = 2.2 + 0.17 * len(chosen)
    figure = new_figure(width=size + 0.8, height=size)
    axes = figure.add_subplot()
    image = axes.imshow(off[np.ix_(chosen, chosen)], vmin=0, cmap='magma_r')
    names = [shortened(analysis.gt.class_names[k]) for k in chosen]
    axes.set_xticks(range(len(chosen)), names, rotation=90, fontsize=6)
    axes.set_yticks(range(len(chosen)), names, fontsize=6)
    axes.set_title(title, fontsize=9)
    figure.colorbar(image, ax=axes)
    return figure
