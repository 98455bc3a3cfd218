"""Two processes do what one does with the same images; the helper says when."""

import os
import subprocess
import sys

import pytest
import torch

from tests.helpers.two_process_run import STEPS, train_all, write_data

STATISTICS = 'density'


@pytest.fixture(scope='module')
def results(tmp_path_factory, project_root):
    """What one process found, and what each of two did."""
    folder = tmp_path_factory.mktemp('two')
    write_data(folder / 'data')
    command = [sys.executable, '-m', 'tests.helpers.two_process_run', str(folder)]
    shared = dict(os.environ, OMP_NUM_THREADS='1', WORLD_SIZE='2', LOCAL_RANK='0')
    processes = [
        subprocess.Popen(
            command,
            cwd=project_root,
            env=dict(shared, RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    whole = train_all(folder, 0, 1)
    for process in processes:
        out, _ = process.communicate(timeout=3000)
        assert process.returncode == 0, out[-3000:]
    ranks = [torch.load(folder / f'rank{r}.pt', weights_only=True) for r in range(2)]
    return whole, ranks


def test_ranks_share_the_index_stream_of_one_process(results):
    whole, ranks = (results[0]['detector'], [r['detector'] for r in results[1]])
    assert len(whole['images']) == STEPS
    for step, images in enumerate(whole['images']):
        # Rank r has entries r, r + 2, ... of the stream.
        assert images[0::2] == ranks[0]['images'][step]
        assert images[1::2] == ranks[1]['images'][step]
    # The schedule came into effect: the only image of class 2 is drawn more often.
    drawn = [image for images in whole['images'][5:] for image in images]
    assert drawn.count(3) > 2


@pytest.mark.parametrize('name', ['detector', 'eqlv2', 'seesaw'])
def test_losses_of_ten_steps_are_those_of_one_process(name, results):
    whole, ranks = results[0][name], [rank[name] for rank in results[1]]
    assert len(whole['losses']) == STEPS
    assert len({round(loss, 6) for loss in whole['losses']}) == STEPS
    for one, first, second in zip(
        whole['losses'], ranks[0]['losses'], ranks[1]['losses'], strict=True
    ):
        assert (first + second) / 2 == pytest.approx(one, abs=1e-4)


@pytest.mark.parametrize('name', ['detector', 'eqlv2', 'seesaw'])
def test_weights_after_ten_steps_are_those_of_one_process(name, results):
    whole = results[0][name]['state']
    for rank in results[1]:
        assert rank[name]['state'].keys() == whole.keys()
        for key, value in whole.items():
            found = rank[name]['state'][key]
            if STATISTICS in key and value.is_floating_point() and value.ndim:
                # Densities are counted for a rank's share of the batch.
                found = 2 * found
            torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['eqlv2', 'seesaw'])
def test_counters_are_those_of_one_process_on_both_ranks(name, results):
    whole = results[0][name]['statistics']
    assert whole
    for rank in results[1]:
        for key, value in whole.items():
            assert (value > 0).any(), key
            torch.testing.assert_close(rank[name]['statistics'][key], value)


def test_the_density_of_ghm_is_that_of_one_process_on_both_ranks(results):
    whole = results[0]['detector']['state']
    keys = [key for key in whole if key.endswith('bin_count')]
    assert keys
    for key in keys:
        assert (whole[key] > 0).any()
        for rank in results[1]:
            found = 2 * rank['detector']['state'][key]
            torch.testing.assert_close(found, whole[key], rtol=1e-4, atol=1e-3)
