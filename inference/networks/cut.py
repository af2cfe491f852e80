"""Cutting a backbone in two: a prefix that stays frozen, and the suffix that learns.

Owns: at which layers a backbone can be cut, and the cut. Refuses: to train or to choose.

A backbone can be cut before a layer when the tensor that enters this layer is the only way from the images to the
feature maps: then everything before depends on nothing after, and everything after on this one tensor. Layers beside
the named one that also start from that tensor (the convolution in a shortcut of Xception) belong to the suffix.
Inside a residual block two tensors run side by side, so there is no clean cut there; between blocks there is.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from inference.networks.registry import Network, NetworkError

if TYPE_CHECKING:
    import keras


def clean_cuts(network: Network) -> tuple[str, ...]:
    """The names of all layers before which the backbone can be cut, from the images to the feature maps."""
    return tuple(_cuts(network))


def cut(network: Network, layer: str) -> tuple["keras.Model", "keras.Model"]:
    """Cut a network's backbone before a layer.

    Args:
        network: A built network; the two models share its layers.
        layer: Name of the first layer that learns, one of `clean_cuts`.

    Returns:
        The prefix, images (n, S, S, 1) -> tensor (n, h, w, c), and the suffix, that tensor -> feature maps.

    Raises:
        NetworkError: There is no such layer, or no clean cut before it; the message names layers near it that can be.
    """
    import keras

    cuts = _cuts(network)
    if layer not in cuts:
        order = [found.name for found in network.backbone.operations]
        if layer in order:
            place = order.index(layer)
            before = [name for name in order[:place] if name in cuts][-2:]
            after = [name for name in order[place:] if name in cuts][:2]
            raise NetworkError(
                f"{network.name!r} cannot be cut before {layer!r}: other paths run beside it. Clean cuts near it are "
                f"before {', '.join(map(repr, before + after))}."
            )
        near = get_close_matches(layer, list(cuts), 3) or list(cuts)[-3:]
        raise NetworkError(
            f"{network.name!r} has no layer {layer!r}. It can be cut before {len(cuts)} layers, for example "
            f"{', '.join(map(repr, near))}."
        )
    at = cuts[layer]
    prefix = keras.Model(network.backbone.input, at, name="prefix")
    suffix = keras.Model(at, network.backbone.output, name="suffix")
    return prefix, suffix


def _cuts(network: Network) -> dict[str, Any]:
    """Layer name -> the tensor that enters it, where that is the only way through."""
    layers = network.backbone.operations  # with the plain additions and products between layers
    # Each layer of a backbone is called once; `input` and `output` are the tensors of that call.
    entering = {layer.name: _ids(layer.input) for layer in layers}
    made_by = {id(layer.output): layer for layer in layers}
    target = id(network.backbone.output)
    names = [layer.name for layer in layers]
    found: dict[str, Any] = {}
    only_way: dict[int, bool] = {}
    # Before the scaling nothing learns anyway.
    for layer in layers[names.index("imagenet_scaling") + 1 :]:
        at = entering[layer.name]
        if len(at) == 1 and not _is_numbered(layer):
            if at[0] not in only_way:
                only_way[at[0]] = not _reaches_images(target, at[0], entering, made_by)
            if only_way[at[0]]:
                found[layer.name] = made_by[at[0]].output
    return found


def _reaches_images(
    target: int, without: int, entering: Mapping[str, Sequence[int]], made_by: Mapping[int, Any]
) -> bool:
    """Whether, walking backwards from a tensor, the images are reached on a way that avoids another tensor."""
    waiting, seen = [target], {target, without}
    while waiting:
        layer = made_by[waiting.pop()].name
        if layer == "images":
            return True
        for before in entering[layer]:
            if before not in seen:
                seen.add(before)
                waiting.append(before)
    return False


def _is_numbered(layer: Any) -> bool:
    """Whether Keras named the layer, by its kind and a number that counts through the whole process."""
    name = re.sub(r"_\d+$", "", layer.name).replace("_", "")
    return bool(name == type(layer).__name__.lower())


def _ids(tensors: Any) -> tuple[int, ...]:
    return tuple(id(tensor) for tensor in (tensors if isinstance(tensors, list) else [tensors]))
