"""A backbone is cut where one tensor is the only way through, and nowhere else."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from inference.networks import HeadSpec, NetworkError, build, clean_cuts, cut

pytestmark = pytest.mark.tensorflow


@pytest.mark.parametrize(
    ("name", "layer", "channels"),
    [
        ("tiny", "conv2", 12),
        ("xception", "block13_sepconv1_act", 728),
        ("efficientnet_lite0", "block11_expand_conv", 112),
        ("densenet121", "conv5_block1_0_bn", 512),
        ("vgg19", "block5_conv1", 512),
        ("mobilenet_v3", "expanded_conv_12_expand", 112),
    ],
)
def test_prefix_and_suffix_are_the_backbone(name: str, layer: str, channels: int) -> None:
    network = build(name, None, ("a", "b"), HeadSpec(units=4))
    prefix, suffix = cut(network, layer)
    images = np.random.default_rng(1).random((1, 64, 64, 1), np.float32)
    inside, outside = ({id(v) for v in model.variables} for model in (prefix, suffix))

    assert prefix.output_shape[-1] == channels
    assert np.array_equal(np.asarray(suffix(prefix(images))), np.asarray(network.backbone(images)))
    assert not inside & outside
    assert inside | outside == {id(v) for v in network.backbone.variables}


def test_no_cut_runs_through_a_block() -> None:
    network = build("xception", None, ("a", "b"), HeadSpec(units=4))
    with pytest.raises(NetworkError, match=r"other paths run beside it.*'block13_sepconv1_act', 'block14_sepconv1'"):
        cut(network, "block13_sepconv2")
    with pytest.raises(NetworkError, match=r"has no layer 'blok14_sepconv1'.*'block14_sepconv1'"):
        cut(network, "blok14_sepconv1")


def test_layers_that_keras_numbers_are_no_names() -> None:
    # The number of such a layer depends on what else the process has built.
    assert not any("conv2d" in name for name in clean_cuts(build("xception", None, ("a", "b"), HeadSpec(units=4))))
