"""Analysis, the report and its tool."""

import importlib.util
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from mmdet_imbalance.core.class_stats import ClassStats
from mmdet_imbalance.evaluation import report_plots
from mmdet_imbalance.evaluation.analysis import Analysis
from mmdet_imbalance.evaluation.boxes import Detections
from mmdet_imbalance.evaluation.coco_ap import coco_average_precision
from mmdet_imbalance.evaluation.report_images import annotated_image
from mmdet_imbalance.evaluation.report_plots import smoothed
from mmdet_imbalance.evaluation.results_file import ClassFacts, write_results
from mmdet_imbalance.visualization import hierarchy_figure
from tests.helpers.browser import browse
from tests.test_evaluation.test_comparison import degraded
from tests.test_evaluation.test_matching import fixture

#: Classes 0 > 1, 2 and 3 are siblings below 0.
TREE = np.eye(6, dtype=bool)
TREE[1:4, 0] = True


def stats_of(gt):
    count = np.array([500, 300, 60, 8, 12, 0])
    return ClassStats(
        class_names=gt.class_names,
        img_count=count,
        instance_count=2 * count,
        num_images=600,
        ancestor_matrix=TREE,
    )


def analysis_of(gt, detections, matrix=None):
    return Analysis('net', gt, detections, ClassFacts(None, None, matrix))


def confusion_by_loop(gt, found, matrix):
    """Fractions of calls by own and by called class, from plain loops."""
    table = np.zeros((gt.num_classes, gt.num_classes))
    rows = [m for m in range(len(gt.labels)) if not gt.is_crowd[m]]
    for m in rows:
        best, called = -1.0, None
        for d in range(len(found)):
            if found.image_index[d] != gt.image_index[m]:
                continue
            a, b = found.boxes[d], gt.boxes[m]
            w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
            h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
            inter = max(w, 0) * max(h, 0)
            iou = inter / (a[2] * a[3] + b[2] * b[3] - inter)
            if iou >= 0.5 and found.scores[d] > best:
                best, called = found.scores[d], found.labels[d]
        if called is None:
            continue
        own = {
            gt.labels[k]
            for k in range(len(gt.labels))
            if gt.image_index[k] == gt.image_index[m]
            and (gt.boxes[k] == gt.boxes[m]).all()
        }
        own |= {a for c in own for a in np.flatnonzero(matrix[c])}
        table[gt.labels[m], gt.labels[m] if called in own else called] += 1
    number = np.bincount(gt.labels[rows], minlength=gt.num_classes)
    return table / np.maximum(number, 1)[:, None]


def test_confusion_is_that_of_a_loop():
    _, gt, detections = fixture(1, num_images=10, num_boxes=60)
    scores = np.random.default_rng(0).permutation(len(detections)) / 1e4
    detections = degraded(replace(detections, scores=scores), 0.3, 0)
    got = analysis_of(gt, detections, TREE).confusion
    np.testing.assert_allclose(got, confusion_by_loop(gt, detections, TREE))
    assert (got * ~np.eye(6, dtype=bool)).sum() > 0.3


def test_relations():
    _, gt, detections = fixture(2)
    # Every box is another object: no labels stand together.
    gt = replace(gt, boxes=gt.boxes + np.arange(len(gt.labels))[:, None] / 1e3)
    analysis = analysis_of(gt, detections, TREE)
    assert analysis.relation(1, 2) == 'sibling'
    assert analysis.relation(1, 0) == 'ancestor'
    assert analysis.relation(1, 4) == ''
    both = analysis_of(gt.expand(TREE), detections, TREE)
    assert both.relation(1, 0) == 'concurrent'
    assert both.concurrent[1, 0] == 1
    assert 0 < both.concurrent[0, 1] < 1


def test_class_table_is_in_order_of_frequency():
    _, gt, detections = fixture(3)
    count = stats_of(gt).img_count
    analysis = Analysis('net', gt, detections, ClassFacts(count, count, None))
    header, rows = analysis.class_table()
    assert [row[0] for row in rows] == [f'class{c}' for c in (0, 1, 2, 4, 3, 5)]
    ap = coco_average_precision(gt, detections).per_class()
    column = [row[header.index('AP')] for row in rows]
    np.testing.assert_allclose(column, ap[[0, 1, 2, 4, 3, 5]])


def test_smoothing_keeps_constants_and_follows_slopes():
    x = np.random.default_rng(0).random(200) * 3
    _, line = smoothed(x, np.full(200, 0.3))
    np.testing.assert_allclose(line, 0.3)
    _, line = smoothed(x, x)
    assert (np.diff(line) > 0).all()
    grid, line = smoothed(np.array([1.0]), np.array([0.5]))
    assert line[0] == 0.5
    assert len(grid) == 100


@pytest.fixture(scope='module')
def tool(project_root):
    spec = importlib.util.spec_from_file_location(
        'analyze', project_root / 'tools' / 'analyze.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def report(tool, tmp_path_factory):
    """A report on two detectors over images on disk."""
    folder = tmp_path_factory.mktemp('report')
    _, gt, detections = fixture(4, num_images=12, num_boxes=80)
    gt = gt.expand(TREE)
    stats = stats_of(gt)
    gt = replace(gt, freq_group=stats.freq_group)
    pixels = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    for image in gt.images[:-1]:
        Image.fromarray(pixels).save(folder / image['file_name'])
    write_results(folder / 'good', gt, detections, TREE, stats)
    write_results(folder / 'bad', gt, degraded(detections, 0.4, 0), TREE, stats)
    out = folder / 'out'
    argv = [f'a <b>={folder}/good.bbox.json', str(folder / 'bad.bbox.json')]
    argv += ['--out', str(out), '--image-root', str(folder)]
    assert tool.main(argv) == 0
    return out


class Page(HTMLParser):
    """Counts what a page consists of, and that all its tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.count, self.links = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.links += [v for k, v in attrs if k in ('src', 'href')]
        if tag not in ('meta', 'img'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_whole_and_self_contained(report):
    text = (report / 'index.html').read_text()
    page = Page(text)
    assert page.open == []
    pictures = [link for link in page.links if not link.startswith('#')]
    assert all(link.startswith('data:image/png;base64,') for link in pictures)
    targets = re.findall(r'<h2 id="(\w+)"', text)
    assert [link[1:] for link in page.links if link[0] == '#'] == targets
    assert page.count['img'] >= 12
    assert page.count['table'] >= 5
    assert 'script' not in page.count
    assert 'a &lt;b&gt;' in text
    for number in (0, 1):
        assert (report / f'image_{number}_1.png').is_file()
        assert (report / f'hierarchy_{number}.png').is_file()
    pictures = list(report.glob('*.png'))
    assert len(pictures) == page.count['img']
    for picture in pictures:
        with Image.open(picture) as image:
            assert min(image.size) > 100
            assert len(image.convert('L').getcolors(256)) > 5


def test_tables_agree_with_the_metric(report):
    rows = (report / 'summary.csv').read_text().splitlines()
    assert rows[0] == 'figure,a <b>,bad,what it is'
    figures = {row.split(',')[0]: row.split(',')[1:] for row in rows[1:]}
    _, gt, detections = fixture(4, num_images=12, num_boxes=80)
    expected = coco_average_precision(gt.expand(TREE), detections).ap()
    assert float(figures['AP'][0]) == pytest.approx(expected)
    assert float(figures['AP'][1]) < float(figures['AP'][0])
    assert int(float(figures['concurrent_objects'][0])) > 10
    assert 'class3' in (report / 'classes_0.md').read_text()


@pytest.mark.parametrize('width', [1200, 700])
def test_page_in_a_real_browser(report, tmp_path, width):
    """No request, no complaint, no broken picture, no text on a text, all in width."""
    shot = tmp_path / 'page.png'
    seen = browse(report / 'index.html', shot, width)
    assert seen.requests == []
    assert seen.messages == []
    assert seen.overlaps == []
    assert seen.facts['broken'] == 0
    assert seen.facts['images'] >= 12
    assert seen.facts['width'] <= width
    pixels = np.asarray(Image.open(shot).convert('L'))
    assert pixels.shape == (seen.facts['height'], width)
    assert (pixels < 128).mean() > 0.005


def test_the_browser_sees_what_is_wrong(tmp_path):
    """The checks above are able to fail."""
    (tmp_path / 'page.html').write_text(
        '<body><img src="missing.png"><script>console.error("oh")</script>'
        '<p>one</p><p style="margin-top:-2em">two</p>'
        '<div style="width:3000px">wide</div></body>'
    )
    seen = browse(tmp_path / 'page.html', tmp_path / 'page.png')
    assert [r.rsplit('/', 1)[1] for r in seen.requests] == ['missing.png']
    assert any('oh' in message for message in seen.messages)
    assert seen.overlaps == [['one', 'two']]
    assert seen.facts['broken'] == 1
    assert seen.facts['width'] > 1200


def texts_on_texts(figure):
    """Pairs of texts of a figure whose rectangles overlap by more than a pixel."""
    figure.canvas.draw()
    found = [
        (text.get_text(), text.get_window_extent())
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip()
    ]
    width, height = figure.canvas.get_width_height()
    # Ticks beyond the limits of an axis exist without being drawn.
    found = [
        (name, box)
        for name, box in found
        if box.x1 > 0 and box.y1 > 0 and box.x0 < width and box.y0 < height
    ]
    return [
        (a, b)
        for k, (a, one) in enumerate(found)
        for b, other in found[:k]
        if min(one.x1, other.x1) - max(one.x0, other.x0) > 1
        and min(one.y1, other.y1) - max(one.y0, other.y0) > 1
    ]


@pytest.mark.parametrize('num_detectors', [1, 5])
@pytest.mark.parametrize('name', ['net', 'a detector with a name of many letters'])
def test_no_text_of_a_picture_lies_on_another(num_detectors, name):
    _, gt, detections = fixture(8, num_images=12, num_boxes=80)
    stats = stats_of(gt)
    names = (*gt.class_names[:5], 'a class whose name takes up half of the page')
    gt = replace(gt.expand(TREE), freq_group=stats.freq_group, class_names=names)
    facts = ClassFacts(stats.img_count, stats.instance_count, TREE)
    analyses = [
        Analysis(f'{name} {k}', gt, degraded(detections, 0.1 * k, k), facts)
        for k in range(num_detectors)
    ]
    first = analyses[0]
    figures = {
        'group': report_plots.ap_by_group(analyses),
        'frequency': report_plots.ap_against_frequency(analyses),
        'errors': report_plots.error_costs(analyses),
        'reliability': report_plots.reliability(analyses),
        'histogram': report_plots.histogram(first),
        'matrix': report_plots.class_matrix(first, first.concurrent, 'title'),
        'tree': hierarchy_figure(names[:5], TREE[:5, :5], np.linspace(0, 1, 5)),
    }
    found = {key: texts_on_texts(figure) for key, figure in figures.items()}
    assert found == {key: [] for key in figures}


def test_texts_of_an_image_are_apart_and_inside():
    _, gt, detections = fixture(9, num_images=4, num_boxes=80)
    analysis = Analysis('net', gt, detections, ClassFacts(None, None, None))
    pixels = np.zeros((480, 640, 3), dtype=np.uint8)
    for k in np.unique(gt.image_index):
        figure = annotated_image(analysis, k, pixels, score_thr=0.1)
        assert texts_on_texts(figure) == []
        texts = figure.axes[0].texts
        assert len(texts) > 5
        width, height = figure.canvas.get_width_height()
        for text in texts:
            box = text.get_window_extent()
            assert box.x0 > -2
            assert box.y0 > -2
            assert box.x1 < width + 2
            assert box.y1 < height + 2


def test_worst_image_is_the_one_with_most_missed():
    _, gt, detections = fixture(10, num_images=8, num_boxes=120)
    analysis = analysis_of(gt, detections.take(np.arange(0, len(detections), 9)))
    rows = [row for row in analysis.telling_images() if row[0].endswith('missed')]
    assert rows
    for what, label, image in rows:
        missed = gt.image_index[analysis.errors.missed & (gt.labels == label)]
        number = np.bincount(missed, minlength=len(gt.images))
        assert what == f'{number.max()} missed'
        assert number[image] == number.max()


def test_labels_of_one_object_in_a_table():
    _, gt, detections = fixture(11, num_images=8, num_boxes=60)
    gt = gt.expand(TREE)
    analysis = analysis_of(gt, detections.expand(TREE), TREE)
    header, rows = analysis.concurrent_table()
    assert header == ['label', 'other label', 'objects', 'fraction', 'score left']
    found = {(a, b): (num, rate, left) for a, b, num, rate, left in rows}
    for child in ('class1', 'class2', 'class3'):
        num, rate, left = found[child, 'class0']
        assert rate == 1
        # An expanded detector gives the ancestor at least the score of the class.
        assert left == pytest.approx(1)
        assert found['class0', child][0] == num
    numbers = [row[2] for row in rows]
    assert numbers == sorted(numbers, reverse=True)


def test_co_occurrence_equals_a_loop_over_images():
    _, gt, _ = fixture(12, num_images=9, num_boxes=50)
    got = analysis_of(gt, Detections()).co_occurrence
    sets = [set(gt.labels[gt.image_index == i].tolist()) for i in range(9)]
    for a in range(6):
        with_a = [s for s in sets if a in s]
        for b in range(6):
            both = sum(b in s for s in with_a) if a != b else 0
            assert got[a, b] == pytest.approx(both / max(len(with_a), 1))


def test_one_detector_without_statistics_images_or_objects(tool, tmp_path):
    _, gt, detections = fixture(5)
    bare = replace(gt, freq_group=None)
    write_results(tmp_path / 'plain', bare, detections)
    argv = [str(tmp_path / 'plain.bbox.json'), '--out', str(tmp_path / 'a')]
    assert tool.main(argv) == 0
    assert 'name --image-root' in (tmp_path / 'a' / 'index.html').read_text()
    empty = bare.select_images(np.arange(0))
    write_results(tmp_path / 'empty', empty, Detections())
    argv = [str(tmp_path / 'empty.bbox.json'), '--out', str(tmp_path / 'b')]
    assert tool.main(argv) == 0
    assert (tmp_path / 'b' / 'index.html').is_file()


def test_statistics_from_a_file_in_another_order(tool, tmp_path):
    _, gt, detections = fixture(6)
    write_results(tmp_path / 'plain', replace(gt, freq_group=None), detections)
    stats = stats_of(gt)
    order = [5, 0, 3, 1, 2, 4]
    ClassStats(
        class_names=[stats.class_names[k] for k in order],
        img_count=stats.img_count[order],
        instance_count=stats.instance_count[order],
        num_images=stats.num_images,
    ).save(tmp_path / 'stats.json')
    argv = [str(tmp_path / 'plain.bbox.json'), '--out', str(tmp_path / 'out')]
    argv += ['--class-stats', str(tmp_path / 'stats.json')]
    assert tool.main([*argv, '--freq-thresholds', '8', '60']) == 0
    rows = (tmp_path / 'out' / 'classes_0.csv').read_text().splitlines()[1:]
    group = {row.split(',')[0]: row.split(',')[1:3] for row in rows}
    assert group['class2'] == ['c', '60']
    assert group['class3'] == ['r', '8']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda rows: rows[0].update(score=float('nan')), 'not finite'),
        (lambda rows: rows[0].update(image_id=-5), 'another dataset or split'),
        (lambda rows: rows[0].update(category_id=-5), 'another dataset or split'),
        (lambda rows: rows[0].pop('bbox'), 'every detection needs'),
    ],
)
def test_bad_results_are_named(tool, tmp_path, capsys, change, message):
    _, gt, detections = fixture(7)
    results, _ = write_results(tmp_path / 'x', gt, detections)
    rows = json.loads(results.read_text())
    change(rows)
    results.write_text(json.dumps(rows))
    assert tool.main([str(results), '--out', str(tmp_path / 'out')]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count('\n') == 1


def test_bad_arguments_are_named(tool, tmp_path, capsys):
    for argv, message in (
        (['nothing.bbox.json', '--out', 'x'], 'nothing'),
        (['nothing.json', '--out', 'x'], '--ann-file'),
        (['x', '--out', 'x', '--freq-thresholds', '1', '2'], '--class-stats'),
    ):
        assert tool.main(argv) == 2
        assert re.search(message, capsys.readouterr().err)


def test_results_of_one_name_are_told_apart_by_their_folder(tool):
    assert tool._named(['x/a.bbox.json', 'y/a.bbox.json', 'z/b.bbox.json']) == [
        ('x/a', 'x/a.bbox.json'),
        ('y/a', 'y/a.bbox.json'),
        ('b', 'z/b.bbox.json'),
    ]
    assert tool._named(['q=x/a.bbox.json'])[0] == ('q', 'x/a.bbox.json')


def test_results_that_cannot_be_told_apart_are_refused(tool, capsys):
    argv = ['x/a.bbox.json', 'x/a.bbox.json', '--out', 'report']
    assert tool.main(argv) == 2
    assert "two results are called 'x/a'" in capsys.readouterr().err
