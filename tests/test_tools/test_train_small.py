"""Every config trains for three steps, validates, and is tested from its checkpoint.

On tiny data and with a tiny backbone: see `tests/helpers/shrunken_configs.py`.
"""

import json
import math

import pytest
import torch

from mmdet_imbalance.cli.runs import load_checkpoint
from tests.helpers.config_files import config_files
from tests.helpers.shrunken_configs import shrink
from tests.helpers.tools import load_tool


def marked(name: str):
    """Configs for a real GPU are many and alike: `make test-all` runs them."""
    is_small = any(word in name for word in ('efficientnet-lite0', 'tiny'))
    return pytest.param(name, marks=() if is_small else pytest.mark.slow)


@pytest.mark.parametrize('name', [marked(name) for name in config_files()])
def test_three_steps_a_validation_and_a_test(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MMDET_IMBALANCE_TRACEBACK', '1')
    # Laying out the logged config takes longer than the training.
    monkeypatch.setattr(
        'yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True)
    )
    config = shrink(name, tmp_path)
    run = ['--work-dir', str(tmp_path / 'run'), '--seed', '0']
    assert load_tool('train').main([str(config), *run]) == 0

    (log,) = (tmp_path / 'run').glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [line for line in lines if 'loss' in line]
    assert len(steps) == 3
    for step in steps:
        losses = {key: value for key, value in step.items() if 'loss' in key}
        assert all(math.isfinite(value) for value in losses.values()), losses
        assert step['loss'] > 0
    assert steps[0]['loss'] != steps[2]['loss']
    validated = [line for line in lines if 'loss' not in line]
    assert validated, 'no validation took place'

    (checkpoint,) = (tmp_path / 'run').glob('*.pth')
    weights = load_checkpoint(checkpoint)['state_dict']
    assert all(
        bool(value.isfinite().all())
        for value in weights.values()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    )
    test = [str(config), str(checkpoint), '--work-dir', str(tmp_path / 'test')]
    assert load_tool('test').main(test) == 0
    (result,) = (tmp_path / 'test').glob('*/*.json')
    metrics = json.loads(result.read_text())
    # The test reads the very weights that were validated last, on the same images.
    for key, value in metrics.items():
        if key.endswith(('AP', 'mAP')):
            assert value == pytest.approx(validated[-1][key], abs=1e-6)
