"""Figure of a table: every row's figures, seed by seed, beside the baseline.

Points are seeds, bars the mean and its standard deviation; diamonds are published
figures, where the table measures the same figure.
"""

from pathlib import Path

from mmdet_imbalance.core.atomic_write import atomic_path
from mmdet_imbalance.reproduction.plan import Plan
from mmdet_imbalance.reproduction.report import Summaries

#: Inches of a row, of a panel's width, and of what stands above and below.
ROW_HEIGHT, PANEL_WIDTH, MARGIN = 0.32, 2.1, 1.3


def plot_table(path: Path, plan: Plan, summaries: Summaries) -> None:
    """Write the figure: a line of panels for each setting, a panel a metric."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    num_columns = max(len(setting.metrics) for setting, _ in summaries)
    heights = [ROW_HEIGHT * len(rows) + MARGIN for _, rows in summaries]
    figure = Figure(
        figsize=(3.0 + PANEL_WIDTH * num_columns, sum(heights)), layout='constrained'
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(
        len(summaries),
        num_columns,
        squeeze=False,
        gridspec_kw=dict(height_ratios=heights),
    )
    for panels, (setting, rows) in zip(grid, summaries, strict=True):
        for panel in panels[len(setting.metrics) :]:
            panel.set_axis_off()
        for column, (key, heading) in enumerate(setting.metrics.items()):
            _panel(panels[column], plan, rows, key)
            panels[column].set_xlabel(f'{heading} (%)')
            if column == 0:
                panels[column].set_yticks(
                    range(len(rows)), [row.row.name for row in rows]
                )
                panels[column].set_title(setting.name, loc='left')
            else:
                panels[column].set_yticks(range(len(rows)), [''] * len(rows))
    figure.suptitle(f'{plan.request.table.title} ({plan.request.scale})')
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _panel(axes, plan, rows, key) -> None:
    """One metric of one setting, rows from top to bottom."""
    for place, row in enumerate(rows):
        is_baseline = row.row.name == plan.request.table.baseline
        colour = 'C7' if is_baseline else 'C0'
        values = [100 * v for v in row.values[key].values() if v == v]
        axes.scatter(values, [place] * len(values), s=12, color=colour, alpha=0.5)
        mean = 100 * row.mean(key)
        if mean == mean:
            spread = 100 * row.spread(key)
            axes.errorbar(
                mean,
                place,
                xerr=spread if spread == spread else None,
                color=colour,
                marker='|',
                markersize=11,
                capsize=3,
            )
            if is_baseline:
                axes.axvline(mean, color=colour, linewidth=0.8, linestyle=':')
        for item in row.row.published:
            if item.metric == key:
                axes.plot(item.value, place, marker='D', color='C1', linestyle='')
        if row.failures:
            axes.annotate(
                'failed', (0.98, place), xycoords=axes.get_yaxis_transform(),
                ha='right', va='center', color='C3', fontsize=7,
            )  # fmt: skip
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(alpha=0.3)
