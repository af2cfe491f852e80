"""ImageNet weights: found, verified, converted, and they still recognise photographs."""

import hashlib
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tensorflow")

from inference.networks import HeadSpec, Network, NetworkError, WeightsMissingError, build, load_imagenet
from inference.networks.efficientnet_lite import STAGES, keras_path
from inference.networks.pretrained import from_port

pytestmark = pytest.mark.tensorflow

FILE = "efficientnet_lite0_imagenet.npz"
DAISY, PALACE = 985, 698


def weights_dir() -> Path:
    """The folder of ImageNet weights that the environment names; the test is skipped without."""
    named = os.environ.get("WEIGHTS_DIR")
    if not named or not (Path(named) / FILE).is_file():
        pytest.skip(f"WEIGHTS_DIR names no folder with {FILE}")
    return Path(named)


def network() -> Network:
    return build("efficientnet_lite0", 224, ("a", "b"), HeadSpec(units=4))


def port_arrays(rng: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
    """Random arrays with the keys and shapes of the PyTorch port."""
    arrays: dict[str, npt.NDArray[np.float32]] = {}

    def kernel(key: str, *shape: int) -> None:
        arrays[f"{key}.weight"] = rng.normal(0, 0.05, shape).astype(np.float16)

    def normal(key: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            arrays[f"{key}.{part}"] = rng.uniform(0.5, 1.5, channels).astype(np.float32)

    kernel("_conv_stem", 32, 3, 3, 3)
    normal("_bn0", 32)
    index, channels = 0, 32
    for stage in STAGES:
        for _ in range(stage.repeats):
            block, wide = f"_blocks.{index}", channels * stage.expansion
            if stage.expansion != 1:
                kernel(f"{block}._expand_conv", wide, channels, 1, 1)
                normal(f"{block}._bn0", wide)
            kernel(f"{block}._depthwise_conv", wide, 1, stage.kernel, stage.kernel)
            normal(f"{block}._bn1", wide)
            kernel(f"{block}._project_conv", stage.channels, wide, 1, 1)
            normal(f"{block}._bn2", stage.channels)
            channels, index = stage.channels, index + 1
    kernel("_conv_head", 1280, 320, 1, 1)
    normal("_bn1", 1280)
    kernel("_fc", 1000, 1280)
    arrays["_fc.bias"] = np.zeros(1000, np.float32)
    return arrays


def test_every_variable_of_the_backbone_is_assigned(tmp_path: Path) -> None:
    arrays = port_arrays(np.random.default_rng(1))
    np.savez(tmp_path / FILE, **arrays)  # type: ignore[arg-type]
    built = network()
    digest = load_imagenet(built, tmp_path)

    assert digest == hashlib.sha256((tmp_path / FILE).read_bytes()).hexdigest()
    weights = built.weights()
    assert np.array_equal(weights["stem_bn/moving_variance"], arrays["_bn0.running_var"])
    assert np.array_equal(weights["block3_expand_bn/gamma"], arrays["_blocks.3._bn0.weight"])
    assert np.array_equal(weights["block0_depthwise_bn/beta"], arrays["_blocks.0._bn1.bias"])


def test_values_lie_in_the_order_of_the_tensorflow_original() -> None:
    stored = np.arange(2 * 3 * 5 * 5, dtype=np.float32)
    converted = from_port({"_conv_stem.weight": stored.reshape(2, 3, 5, 5), "_fc.bias": np.zeros(1000)})

    assert set(converted) == {"stem_conv/kernel"}
    assert converted["stem_conv/kernel"].shape == (5, 5, 3, 2)
    assert np.array_equal(converted["stem_conv/kernel"].ravel(), stored)


def test_batch_counters_and_classifier_have_no_place() -> None:
    assert keras_path("_bn0.num_batches_tracked") is None
    assert keras_path("_fc.weight") is None
    assert keras_path("_bn1.running_mean") == "head_conv_bn/moving_mean"


def test_missing_weights_say_what_and_where(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=rf"looked for {FILE} in .*set `weights: none`"):
        load_imagenet(network(), tmp_path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / FILE, **port_arrays(np.random.default_rng(2)))  # type: ignore[arg-type]
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  {FILE}\n")
    with pytest.raises(NetworkError, match="The file is damaged: copy it again"):
        load_imagenet(network(), tmp_path)


def test_an_incomplete_file_is_refused(tmp_path: Path) -> None:
    arrays = port_arrays(np.random.default_rng(3))
    del arrays["_bn0.weight"]
    np.savez(tmp_path / FILE, **arrays)  # type: ignore[arg-type]
    with pytest.raises(NetworkError, match=r"1 arrays missing \(first: \['stem_bn/gamma'\]\)"):
        load_imagenet(network(), tmp_path)


def test_real_weights_recognise_photographs_in_our_scaling() -> None:
    """With the archive's own ImageNet classifier behind our backbone and our scaling: a daisy and a palace."""
    import cv2
    import keras
    from sklearn.datasets import load_sample_images

    folder = weights_dir()
    built = network()
    load_imagenet(built, folder)
    with np.load(folder / FILE, allow_pickle=False) as archive:
        kernel = archive["_fc.weight"].astype(np.float32).reshape(1280, 1000)
        bias = archive["_fc.bias"]
    scaling = built.model.get_layer("imagenet_scaling")
    colour = keras.Model(scaling.input, built.backbone.output)
    found = {}
    for name, picture in zip(("china", "flower"), load_sample_images().images, strict=True):
        side = min(picture.shape[:2]) * 7 // 8
        top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
        crop = cv2.resize(picture[top : top + side, left : left + side], (224, 224), interpolation=cv2.INTER_AREA)
        maps = np.asarray(colour(crop[None].astype(np.float32) / 255))
        found[name] = np.argsort(-(maps.mean(axis=(1, 2)) @ kernel + bias)[0])[:3].tolist()

    assert found["flower"][0] == DAISY
    assert PALACE in found["china"]
