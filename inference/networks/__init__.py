"""The networks: a registry of backbones by name, and the one head that they all share.

Owns: `build`, which makes a network (input, scaling, backbone, head) from a name, `load_imagenet`, which fills its
backbone with published weights, and `cut`, which divides the backbone into a frozen and a learning part. Refuses:
training, artefacts, preprocessing of pictures. Keras is imported only when a network is built, so that a worker without
TensorFlow can import this package.
"""

from inference.networks.cut import clean_cuts, cut
from inference.networks.paths import variables_by_path
from inference.networks.pretrained import WeightsMissingError, load_imagenet
from inference.networks.registry import (
    BackboneSpec,
    HeadSpec,
    Network,
    NetworkError,
    backbone_spec,
    build,
    build_head,
    names,
)

__all__ = [
    "BackboneSpec",
    "HeadSpec",
    "Network",
    "NetworkError",
    "WeightsMissingError",
    "backbone_spec",
    "build",
    "build_head",
    "clean_cuts",
    "cut",
    "load_imagenet",
    "names",
    "variables_by_path",
]
