"""Write the table by which `mdtree.networks.fingerprint` recognises the networks of torchvision and timm.

python tests/compat/network_table.py [TABLE]    writes mdtree/data_files/networks.json (`make test-compat` compares it)

Every network is built twice, with 10 and with 11 classes, and without any values: the tensors that differ are its head.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn

from mdtree.files import write_atomically
from mdtree.networks.fingerprint import digest, names_digest

TABLE = Path(__file__).parents[2] / "mdtree" / "data_files" / "networks.json"

# of timm's thousand, those that are trained most, and small ones
_TIMM = """
resnet18 resnet34 resnet50 resnet101 resnet152 resnet26 resnet18d resnet34d resnet50d resnet101d resnet26d resnet10t
resnet14t resnetrs50 resnetv2_50 resnetv2_101 resnext50_32x4d resnext101_32x8d seresnet50 seresnext50_32x4d
wide_resnet50_2 ecaresnet50d resnest50d res2net50_26w_4s skresnet18 skresnet34 cspresnet50 cspdarknet53 darknet53
densenet121 densenet169 densenet201 dpn68 dla34 hrnet_w18 inception_v3 inception_v4 inception_resnet_v2 legacy_xception
vgg16 vgg16_bn vgg19 mobilenetv2_100 mobilenetv3_small_050 mobilenetv3_small_100 mobilenetv3_large_100
mobilenetv4_conv_small mobilenetv4_conv_medium mnasnet_100 fbnetc_100 ghostnet_100 lcnet_050 lcnet_100 tinynet_a
tinynet_e efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_lite0
tf_efficientnetv2_b0 tf_efficientnetv2_s efficientnetv2_rw_t efficientnetv2_rw_s regnetx_002 regnety_002 regnety_004
regnety_008 regnety_016 regnety_032 nfnet_f0 eca_nfnet_l0 convnext_atto convnext_femto convnext_pico convnext_nano
convnext_tiny convnext_small convnext_base convnextv2_atto convnextv2_femto convnextv2_pico convnextv2_nano
convnextv2_tiny vit_tiny_patch16_224 vit_small_patch16_224 vit_small_patch32_224 vit_base_patch16_224
vit_base_patch32_224 vit_large_patch16_224 vit_tiny_patch16_384 vit_small_patch16_384 vit_base_patch16_384
vit_small_patch14_dinov2 vit_base_patch14_dinov2 vit_base_patch16_clip_224 vit_base_patch32_clip_224
deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 deit_small_distilled_patch16_224 deit3_small_patch16_224
deit3_base_patch16_224 beit_base_patch16_224 beitv2_base_patch16_224 cait_xxs24_224 cait_s24_224 xcit_nano_12_p16_224
xcit_tiny_12_p16_224 swin_tiny_patch4_window7_224 swin_small_patch4_window7_224 swin_base_patch4_window7_224
swinv2_tiny_window8_256 swinv2_cr_tiny_224 maxvit_tiny_tf_224 coatnet_0_rw_224 coat_tiny levit_128s levit_256
pvt_v2_b0 pvt_v2_b1 pvt_v2_b2 poolformer_s12 poolformerv2_s12 caformer_s18 convformer_s18 mixer_s32_224 mixer_s16_224
mixer_b16_224 gmlp_s16_224 resmlp_12_224 convmixer_768_32 edgenext_x_small edgenext_small mobilevit_xxs mobilevit_xs
mobilevit_s mobilevitv2_050 mobilevitv2_100 efficientformer_l1 efficientformerv2_s0 fastvit_t8 mobileone_s0 repvgg_a0
repvit_m1 eva02_tiny_patch14_224 eva02_small_patch14_224 twins_svt_small visformer_tiny hardcorenas_a volo_d1_224
"""
TIMM = tuple(_TIMM.split())

Row = tuple[str, tuple[str, ...], str]


def table() -> dict[str, list[Row]]:
    """Digest of names to the networks that have them: name, head, digest of names and shapes."""
    rows: dict[str, list[Row]] = {}
    for spec, build in _networks():
        ten, eleven = ({n: tuple(v.shape) for n, v in build(classes).state_dict().items()} for classes in (10, 11))
        counted = {name: shape for name, shape in ten.items() if not name.endswith("num_batches_tracked")}
        head = tuple(name for name in counted if ten[name] != eleven[name])
        if not head or any(ten[name][1:] != eleven[name][1:] for name in head):
            raise SystemExit(f"{spec}: the number of classes is not the first dimension of some tensors")
        rows.setdefault(names_digest(counted), []).append((spec, head, digest(counted, head)))
    return rows


def _networks() -> Iterator[tuple[str, Callable[[int], nn.Module]]]:
    """Torchvision's first: where timm has the same network under the same names, that is the name it is known by."""
    import timm
    from torchvision import models

    for name in models.list_models(module=models):
        yield f"torchvision:{name}", lambda classes, name=name: _outline(models.get_model, name, classes)
    for name in ("googlenet", "inception_v3"):
        yield (
            f"torchvision:{name}?aux_logits=false",
            lambda classes, name=name: _outline(models.get_model, name, classes, aux_logits=False),
        )
    for name in TIMM:
        yield f"timm:{name}", lambda classes, name=name: _outline(timm.create_model, name, classes)


def _outline(create: Callable[..., nn.Module], name: str, classes: int, **options: bool) -> nn.Module:
    from torchvision.models import regnet

    if name in ("googlenet", "inception_v3") and create.__module__.startswith("torchvision"):
        options["init_weights"] = False
    widths = regnet.BlockParams.from_init_params

    def with_values(*arguments: object, **named: object) -> object:
        with torch.device("cpu"):  # torchvision's RegNet computes its widths with tensors
            return widths(*arguments, **named)

    with torch.device("meta"), patch.object(regnet.BlockParams, "from_init_params", with_values):
        return create(name, num_classes=classes, **options)


def text(rows: dict[str, list[Row]]) -> str:
    """The table as JSON, one network a line."""
    import timm
    import torchvision

    made_with = {"torchvision": torchvision.__version__.partition("+")[0], "timm": timm.__version__}
    groups = ",\n".join(
        f'"{names}": [\n' + ",\n".join(json.dumps(row) for row in group) + "\n]" for names, group in rows.items()
    )
    return f'{{"made_with": {json.dumps(made_with)},\n"networks": {{\n{groups}\n}}}}\n'


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TABLE
    write_atomically(target, text(table()).encode())
