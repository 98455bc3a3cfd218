"""One self-contained HTML page about one or several detectors.

Pictures stand inside the page, nothing is loaded from elsewhere, no script runs: it
opens from a disk, in a mail, behind a firewall.
"""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mmdet_imbalance.core.atomic_write import atomic_path, write_text_atomically
from mmdet_imbalance.evaluation import report_plots as plots
from mmdet_imbalance.evaluation.analysis import Analysis
from mmdet_imbalance.evaluation.report_images import annotated_image
from mmdet_imbalance.evaluation.report_style import MEANINGS, STYLE
from mmdet_imbalance.evaluation.tables import csv_table, format_number, markdown_table


class Report:
    """Collects sections, then writes the page, PNG files and tables.

    Args:
        folder: folder to write to.
        title: heading of the page.
    """

    def __init__(self, folder: str | Path, title: str) -> None:
        self.folder = Path(folder)
        self.title = title
        self._parts: list[str] = []
        self._headings: list[str] = []
        self._is_row_open = False

    def heading(self, text: str, note: str = '') -> None:
        """Start a section."""
        self._end_row()
        self._parts.append(f'<h2 id="s{len(self._headings)}">{html.escape(text)}</h2>')
        self._headings.append(text)
        if note:
            self.note(note)

    def note(self, text: str) -> None:
        """Add a paragraph."""
        self._end_row()
        self._parts.append(f'<p class="note">{html.escape(text)}</p>')

    def _add_to_row(self, text: str) -> None:
        """Tables and pictures that follow each other stand side by side."""
        if not self._is_row_open:
            self._parts.append('<div class="row">')
            self._is_row_open = True
        self._parts.append(text)

    def _end_row(self) -> None:
        if self._is_row_open:
            self._parts.append('</div>')
            self._is_row_open = False

    def figure(self, name: str, figure: Figure | None, caption: str = '') -> None:
        """Add a picture and write `NAME.png`; None is left out."""
        if figure is None:
            return
        buffer = io.BytesIO()
        figure.savefig(buffer, format='png', dpi=110)
        with atomic_path(self.folder / f'{name}.png') as path:
            path.write_bytes(buffer.getvalue())
        data = base64.b64encode(buffer.getvalue()).decode()
        text = html.escape(caption or name)
        self._add_to_row(
            f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
            f'<figcaption>{html.escape(caption)}</figcaption></figure>'
        )

    def table(self, name: str, header: Sequence[str], rows: Sequence[Sequence]) -> None:
        """Add a table and write `NAME.csv` and `NAME.md`."""
        is_text = [
            any(isinstance(row[k], str) for row in rows) for k in range(len(header))
        ]

        def line(tag: str, cells: Sequence) -> str:
            parts = (
                f'<{tag}{" class=text" * text}>{html.escape(format_number(v))}</{tag}>'
                for v, text in zip(cells, is_text, strict=True)
            )
            return f'<tr>{"".join(parts)}</tr>'

        body = '\n'.join([line('th', header), *(line('td', row) for row in rows)])
        self._add_to_row(f'<div class="scroll"><table>{body}</table></div>')
        write_text_atomically(self.folder / f'{name}.csv', csv_table(header, rows))
        write_text_atomically(
            self.folder / f'{name}.md', markdown_table(header, rows) + '\n'
        )

    def write(self) -> Path:
        """Write `index.html` and return its path."""
        self._end_row()
        title = html.escape(self.title)
        links = ''.join(
            f'<a href="#s{k}">{html.escape(text)}</a>'
            for k, text in enumerate(self._headings)
        )
        body = '\n'.join(self._parts)
        path = self.folder / 'index.html'
        write_text_atomically(
            path,
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<title>{title}</title><style>{STYLE}</style></head>\n'
            f'<body><h1>{title}</h1>\n<nav>{links}</nav>\n{body}\n</body></html>\n',
        )
        return path


def write_report(
    analyses: Sequence[Analysis],
    folder: str | Path,
    image_root: str | Path | None = None,
    score_thr: float = 0.3,
) -> Path:
    """Write everything there is to say.

    Args:
        analyses: one for each detector, over the same ground truth.
        folder: folder to write to.
        image_root: folder of the images; None where the paths are whole.
        score_thr: detections below it are left out of the pictures.

    Returns:
        Path of the page.
    """
    first = analyses[0]
    names = ', '.join(a.name for a in analyses)
    report = Report(folder, f'Detection by class frequency: {names}')
    report.heading(
        'Summary',
        f'{len(first.gt.images)} images, {int(first.num_boxes.sum())} objects, '
        f'{first.gt.num_classes} classes, of which '
        f'{int((first.num_boxes > 0).sum())} have objects here. Tables give fractions, '
        'pictures percent; a dash is an average over nothing.',
    )
    keys = list(first.summary)
    rows = [
        [
            key,
            *(_undefined(a.summary.get(key, np.nan)) for a in analyses),
            MEANINGS.get(key, ''),
        ]
        for key in keys
    ]
    report.table('summary', ['figure', *(a.name for a in analyses), 'what it is'], rows)
    report.figure('ap_by_group', plots.ap_by_group(analyses), 'AP by frequency group')
    report.figure(
        'ap_against_frequency',
        plots.ap_against_frequency(analyses),
        'AP of each class against its frequency in training; the line is a local mean',
    )
    report.heading(
        'Errors',
        'AP50 that would be gained if one type of error were repaired (TIDE): Cls '
        'wrong class, Loc badly placed, Both, Dupe found twice, Bkg on the background, '
        'Miss.',
    )
    report.figure('errors', plots.error_costs(analyses), 'cost of errors by group')
    report.heading(
        'Calibration',
        'How often detections of a score are right. Below the diagonal the detector '
        'believes too much in itself.',
    )
    report.figure('reliability', plots.reliability(analyses), 'reliability by group')
    report.heading('Classes in the data')
    report.figure('histogram', plots.histogram(first), 'frequency of each class')
    report.figure(
        'co_occurrence',
        plots.class_matrix(
            first, first.co_occurrence, 'images with the row that have the column, too'
        ),
        'classes that stand in one image together',
    )
    report.figure(
        'concurrent',
        plots.class_matrix(
            first, first.concurrent, 'objects of a row that bear the column, too'
        ),
        'labels that stand on one object together (concurrent rate)',
    )
    for number, analysis in enumerate(analyses):
        _detector(report, analysis, number, image_root, score_thr)
    return report.write()


def _detector(report, analysis, number, image_root, score_thr):
    report.heading(f'{analysis.name}: every class')
    report.table(f'classes_{number}', *analysis.class_table())
    matrix = analysis.facts.ancestor_matrix
    if matrix is not None and (matrix.sum() > len(matrix)):
        from mmdet_imbalance.visualization.hierarchy_figure import hierarchy_figure

        figure = hierarchy_figure(
            analysis.gt.class_names, matrix, analysis.result.per_class()
        )
        report.figure(f'hierarchy_{number}', figure, 'AP at each node of the hierarchy')
    header, rows = analysis.concurrent_table()
    if rows:
        report.heading(
            f'{analysis.name}: labels of one object',
            'Fraction of the objects with a label that bear the other one, too, and '
            'how much score that one has left: its score over the larger of both. 1: '
            'they do not compete.',
        )
        report.table(f'concurrent_{number}', header, rows)
    header, rows = analysis.confused_pairs()
    report.heading(
        f'{analysis.name}: wrong names',
        'What objects are called by the best-scored detection on them, where that is '
        'none of their labels. Relation: sibling classes share a parent; concurrent '
        'classes stand on one object elsewhere.',
    )
    if rows:
        report.table(f'confusion_{number}', header, rows)
        report.figure(
            f'confusion_{number}',
            plots.class_matrix(
                analysis, analysis.confusion, 'objects of a row called by the column'
            ),
        )
    _pictures(report, analysis, number, image_root, score_thr)


def _pictures(report, analysis, number, image_root, score_thr):
    telling = analysis.telling_images()
    shown, missing = 0, None
    report.heading(
        f'{analysis.name}: images of rare classes',
        'Annotated boxes are solid with their label sets; detections are dashed, true '
        f'ones blue, false ones red, from a score of {score_thr} on.',
    )
    for what, label, image in telling:
        path = Path(image_root or '', analysis.gt.images[image].get('file_name') or '-')
        pixels = _read_image(path)
        if pixels is None:
            missing = missing or path
            continue
        shown += 1
        report.figure(
            f'image_{number}_{shown}',
            annotated_image(analysis, image, pixels, score_thr),
            f'{analysis.gt.class_names[label]}: {what} ({path.name})',
        )
    if missing is not None:
        report.note(f'Images were not found (first: {missing}); name --image-root.')


def _read_image(path: Path) -> np.ndarray | None:
    from PIL import Image

    if not path.is_file():
        return None
    with Image.open(path) as image:
        return np.asarray(image.convert('RGB'))


def _undefined(value: float) -> float:
    return float('nan') if value == -1 else value
