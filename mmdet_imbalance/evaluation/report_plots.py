"""Pictures of a report.

Every function takes analyses (one a detector) and gives a matplotlib figure that
belongs to nobody's global state. Shapes: C classes.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

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


def new_figure(width: float = 7.0, height: float = 4.0) -> Figure:
    """A figure that needs no display."""
    figure = Figure(figsize=(width, height), layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def ap_by_group(analyses: Sequence[Analysis]) -> Figure:
    """AP of every group, a bar for each detector."""
    figure = new_figure()
    axes = figure.add_subplot()
    groups = list(analyses[0].groups)
    width = 0.8 / len(analyses)
    for number, analysis in enumerate(analyses):
        values = [100 * analysis.result.ap(classes=m) for m in analysis.groups.values()]
        places = np.arange(len(groups)) + (number - (len(analyses) - 1) / 2) * width
        heights = np.maximum(values, 0)
        bars = axes.bar(places, heights, width, label=analysis.name)
        labels = [f'{v:.1f}' if v >= 0 else 'none' for v in values]
        axes.bar_label(bars, labels, fontsize=8)
    numbers = [int(mask.sum()) for mask in analyses[0].groups.values()]
    ticks = [f'{g} ({n})' for g, n in zip(groups, numbers, strict=True)]
    axes.set_xticks(range(len(groups)), ticks)
    axes.set_ylabel('AP (%)')
    axes.set_xlabel('classes (number) by training images')
    axes.legend()
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
    known = analyses[0].facts.img_count is not None
    axes.set_xlabel('training images' if known else 'evaluated objects')
    axes.set_ylabel('AP (%)')
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
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
    figure = new_figure(width=max(7.0, 1.1 * len(analyses) * len(analyses[0].groups)))
    axes = figure.add_subplot()
    names, bottoms, place = [], [], 0
    for group in analyses[0].groups:
        for analysis in analyses:
            gain = analysis.errors.gain(analysis.groups[group])
            bottom = 0.0
            for kind, colour in zip(ERROR_TYPES, ERROR_COLOURS, strict=True):
                value = max(0.0, np.nan_to_num(100 * gain[kind]))
                label = kind if place == 0 else None
                axes.bar(place, value, bottom=bottom, color=colour, label=label)
                bottom += value
            bottoms.append(bottom)
            names.append(group if len(analyses) == 1 else f'{group}\n{analysis.name}')
            place += 1
    axes.set_xticks(range(place), names, fontsize=8)
    axes.set_ylabel('AP50 lost (%)')
    axes.legend(fontsize=8)
    return figure


def reliability(analyses: Sequence[Analysis]) -> Figure:
    """Precision against score, by group; below the diagonal is overconfident."""
    figure = new_figure(width=3.6 * len(analyses), height=3.6)
    for number, analysis in enumerate(analyses):
        axes = figure.add_subplot(1, len(analyses), number + 1)
        axes.plot([0, 1], [0, 1], ':', color='#999999')
        for group, mask in analysis.groups.items():
            curve = analysis.reliability(mask)
            if curve.count.sum():
                label = f'{group}: {curve.expected_error:.3f}'
                colour = GROUP_COLOURS[group]
                axes.plot(curve.confidence, curve.precision, '.-', color=colour)
                axes.lines[-1].set_label(label)
        axes.set(title=analysis.name, xlabel='mean score', ylabel='precision')
        if axes.lines[1:]:
            axes.legend(title='calibration error', fontsize=7, title_fontsize=7)
    return figure


def histogram(analysis: Analysis) -> Figure:
    """Objects or training images of each class, most frequent first."""
    figure = new_figure()
    axes = figure.add_subplot()
    order = np.argsort(-analysis.frequency, kind='stable')
    colours = np.array(['#555555'] * len(order), dtype=object)
    for group, mask in analysis.groups.items():
        colours[mask] = GROUP_COLOURS[group]
    axes.bar(
        range(len(order)), analysis.frequency[order], color=colours[order].tolist()
    )
    axes.set_yscale('symlog', linthresh=1)
    if len(order) <= 60:
        names = [analysis.gt.class_names[k] for k in order]
        axes.set_xticks(range(len(order)), names, rotation=90, fontsize=7)
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
    size = 2.5 + 0.22 * len(chosen)
    figure = new_figure(width=size + 1, height=size)
    axes = figure.add_subplot()
    image = axes.imshow(off[np.ix_(chosen, chosen)], vmin=0, cmap='magma_r')
    names = [analysis.gt.class_names[k] for k in chosen]
    axes.set_xticks(range(len(chosen)), names, rotation=90, fontsize=6)
    axes.set_yticks(range(len(chosen)), names, fontsize=6)
    axes.set_title(title, fontsize=9)
    figure.colorbar(image, ax=axes)
    return figure


def annotated_image(
    analysis: Analysis, image_index: int, pixels: np.ndarray, score_thr: float = 0.3
) -> Figure:
    """An image with annotated (solid) and detected (dashed) boxes and label sets.

    Args:
        analysis: whose boxes to draw.
        image_index: index of the image.
        pixels: RGB, shape (H, W, 3), uint8.
        score_thr: detections below it are left out.
    """
    height, width = pixels.shape[:2]
    figure = new_figure(width=6.0, height=6.0 * height / width)
    axes = figure.add_subplot()
    axes.imshow(pixels)
    axes.set_axis_off()
    gt, found = analysis.gt, analysis.detections
    rows = np.flatnonzero(gt.image_index == image_index)
    for box, labels in _label_sets(gt.boxes[rows], gt.labels[rows]):
        text = ', '.join(_specific_first(analysis, labels))
        _draw(axes, box, text, '#009e73', '-', above=True)
    rows = np.flatnonzero(found.image_index == image_index)
    rows = rows[found.scores[rows] >= score_thr]
    for row in rows[np.argsort(found.scores[rows])]:
        name = gt.class_names[found.labels[row]]
        colour = '#0072b2' if analysis.matches.is_true[row] else '#cc3311'
        text = f'{name} {found.scores[row]:.2f}'
        _draw(axes, found.boxes[row], text, colour, '--', above=False)
    return figure


def _label_sets(boxes, labels):
    if not len(boxes):
        return []
    unique, which = np.unique(boxes, axis=0, return_inverse=True)
    return [(box, labels[which.ravel() == k]) for k, box in enumerate(unique)]


def _specific_first(analysis, labels):
    matrix = analysis.facts.ancestor_matrix
    if matrix is not None:
        labels = sorted(labels, key=lambda label: -matrix[label].sum())
    return [analysis.gt.class_names[label] for label in labels]


def _draw(axes, box, text, colour, style, above):
    x, y, w, h = box
    axes.add_patch(
        Rectangle(
            (x, y), w, h, fill=False, color=colour, linestyle=style, linewidth=1.2
        )
    )
    axes.text(
        x,
        y if above else y + h,
        text,
        fontsize=6,
        color='white',
        verticalalignment='bottom' if above else 'top',
        bbox={'facecolor': colour, 'alpha': 0.75, 'pad': 0.5, 'linewidth': 0},
    )
