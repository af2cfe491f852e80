"""`inference.networks`: every network is built as the contract says, and refuses what does not fit."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from inference.networks import HeadSpec, Network, NetworkError, backbone_spec, build, names

pytestmark = pytest.mark.tensorflow

CLASSES = ("glioma", "meningioma", "no_tumor")
GRIDS = {
    "densenet121": (3, 3, 1024),
    "efficientnet_lite0": (3, 3, 1280),
    "mobilenet_v3": (3, 3, 960),
    "tiny": (12, 12, 16),
    "vgg19": (6, 6, 512),
    "xception": (3, 3, 2048),
}


@pytest.fixture(scope="module")
def lite() -> Network:
    return build("efficientnet_lite0", 96, CLASSES, HeadSpec(units=8))


def test_every_name_has_an_expected_grid() -> None:
    assert {name for name in names() if not name.endswith("_unit")} == set(GRIDS)


def test_a_unit_network_differs_in_the_scaling_alone() -> None:
    for name in ("densenet121", "mobilenet_v3", "vgg19", "xception"):
        plain, unit = backbone_spec(name), backbone_spec(f"{name}_unit")
        assert (unit.scale, unit.offset) == ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
        assert (unit.make, unit.imagenet_file) == (plain.make, plain.imagenet_file)


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_a_network_ends_at_its_last_feature_maps(name: str) -> None:
    network = build(name, 96, CLASSES, HeadSpec(units=8))

    assert network.backbone.input_shape == (None, 96, 96, 1)
    assert network.backbone.output_shape == (None, *GRIDS[name])
    assert network.model.output_shape == (None, 3)
    assert any(backbone_spec(name).last_convolution in layer.name for layer in network.backbone.layers)


def test_model_is_backbone_then_head(lite: Network) -> None:
    images = np.random.default_rng(1).random((2, 96, 96, 1), np.float32)
    joined = np.asarray(lite.head(lite.backbone(images)))

    assert np.abs(np.asarray(lite.model(images)) - joined).max() < 1e-6


def test_a_sigmoid_head_has_one_score() -> None:
    network = build("efficientnet_lite0", 64, ("a", "b"), HeadSpec(units=4, activation="sigmoid"))

    assert network.model.output_shape == (None, 1)


def test_input_is_scaled_inside_the_graph(lite: Network) -> None:
    import keras

    scaled = keras.Model(lite.model.input, lite.model.get_layer("imagenet_scaling").output)
    levels = np.array([0, 127, 255], np.float32) / 255
    found = np.asarray(scaled(np.broadcast_to(levels[:, None, None, None], (3, 96, 96, 1)).copy()))

    assert found.shape == (3, 96, 96, 3)
    assert np.allclose(found[:, 0, 0, :], [[-127 / 128] * 3, [0.0] * 3, [1.0] * 3], atol=1e-6)


def test_vgg_gets_blue_green_red_means() -> None:
    spec = backbone_spec("vgg19")

    assert spec.scale == (255.0, 255.0, 255.0)
    assert spec.offset == (-103.939, -116.779, -123.68)


def test_any_size_works_for_training() -> None:
    network = build("efficientnet_lite0", None, CLASSES, HeadSpec(units=4))

    for size in (64, 96):
        assert network.model(np.zeros((1, size, size, 1), np.float32)).shape == (1, 3)


def test_stochastic_depth_has_no_weights_and_no_effect_in_use(lite: Network) -> None:
    dropping = build("efficientnet_lite0", 96, CLASSES, HeadSpec(units=8), drop_path=0.2)
    dropping.set_weights(lite.weights())
    images = np.random.default_rng(2).random((1, 96, 96, 1), np.float32)

    assert np.array_equal(np.asarray(dropping.model(images)), np.asarray(lite.model(images)))


def test_weights_make_the_round_trip(lite: Network) -> None:
    weights = lite.weights()
    twin = build("efficientnet_lite0", 96, CLASSES, HeadSpec(units=8))
    twin.set_weights({path: value.astype(np.float64) for path, value in weights.items()})

    assert all(np.array_equal(value, twin.weights()[path]) for path, value in weights.items())
    assert "head_hidden/kernel" in weights
    assert not any("seed" in path for path in weights)


def test_weights_of_another_network_are_refused_and_nothing_is_assigned(lite: Network) -> None:
    before = lite.weights()
    missing = dict(before)
    del missing["stem_conv/kernel"]
    with pytest.raises(NetworkError, match=r"1 missing \(first: \['stem_conv/kernel'\]\)"):
        lite.set_weights(missing)
    with pytest.raises(NetworkError, match=r"head_scores/bias has shape \(7,\); .* expects \(3,\)"):
        lite.set_weights({path: value + 1 for path, value in before.items()} | {"head_scores/bias": np.zeros(7)})
    assert all(np.array_equal(value, lite.weights()[path]) for path, value in before.items())


@pytest.mark.parametrize(
    ("name", "size", "classes", "activation", "message"),
    [
        ("resnet", 96, CLASSES, "softmax", "There is no network 'resnet'; the registry has densenet121"),
        ("xception", 8, CLASSES, "softmax", "must be 32 to 1024 pixels; received 8"),
        ("xception", 96, ("a",), "softmax", "two or more different class names"),
        ("xception", 96, ("a", "a"), "softmax", "two or more different class names"),
        ("xception", 96, CLASSES, "sigmoid", "tells two classes apart; received 3"),
    ],
)
def test_what_does_not_go_together_is_refused(
    name: str, size: int, classes: tuple[str, ...], activation: str, message: str
) -> None:
    with pytest.raises(NetworkError, match=message):
        build(name, size, classes, HeadSpec(activation=activation))  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"units": 0}, {"dropout": 1.0}, {"activation": "tanh"}])
def test_a_head_out_of_range_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(NetworkError, match="A head needs units >= 1"):
        HeadSpec(**change)  # type: ignore[arg-type]


def test_weights_fit_the_second_network_of_a_process() -> None:
    first, second = (build("xception", None, CLASSES, HeadSpec(units=4)) for _ in range(2))
    second.set_weights(first.weights())

    assert list(first.weights()) == list(second.weights())
    assert {"conv2d/kernel", "conv2d_3/kernel", "batch_normalization/gamma"} <= set(second.weights())
