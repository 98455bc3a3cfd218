"""The configs for users with the full data, on tiny files of the same form."""

from pathlib import Path

import pytest
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from mmdet_imbalance.registry import METRICS
from tests.helpers.open_images_files import line, write_files

NAMES = ('openimages_v7_multilabel', 'openimages_challenge2019_multilabel')
FACTS = ['x,v,/m/t,1', 'x,v,/m/c,0']


@pytest.fixture(autouse=True)
def _host_scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.mark.parametrize('name', NAMES)
def test_configs_build_and_give_samples(name, project_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MMDET_IMBALANCE_CACHE', str(tmp_path / 'cache'))
    cfg = Config.fromfile(project_root / f'configs/_base_/datasets/{name}.py')
    made = write_files(tmp_path / 'made', [line('x', '/m/d'), line('x', '/m/t')], FACTS)
    sources = {**made, 'image_sizes_file': str(tmp_path / 'made' / 'sizes.csv')}
    Path(sources['image_sizes_file']).write_text('ImageID,Width,Height\nx,64,48\n')
    for split in ('train', 'val'):
        config = cfg[f'{split}_dataloader'].dataset
        root = Path(config.data_root)
        images = root / config.data_prefix.img
        images.mkdir(parents=True)
        Image.new('RGB', (64, 48)).save(images / 'x.jpg')
        (root / 'annotations').mkdir(exist_ok=True)
        for key, source in sources.items():
            if key.endswith('file') and config.get(key):
                (root / config[key]).write_bytes(Path(source).read_bytes())
        sample = DATASETS.build(config)[0]['data_samples']
        assert sample.verified_neg == [3]
        if split == 'train':
            assert sample.gt_instances.multi_labels.tolist() == [[0, 1, 1, 0]]
        else:
            assert len(sample.instances) == 2
    METRICS.build(cfg.val_evaluator)
    assert cfg.num_classes == (601 if 'v7' in name else 500)
