"""ImageNet weights for a backbone, from a folder that an operator filled.

Owns: finding the file, checking its digest where the folder lists one (`SHA256SUMS`), converting names and layouts,
and assigning every variable. Refuses: to download, to unpickle, and to go on with random weights when a file is
missing; random weights are a scenario's explicit choice (`weights: none`).
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from inference.networks import efficientnet_lite
from inference.networks.paths import variables_by_path
from inference.networks.registry import Network, NetworkError, backbone_spec


class WeightsMissingError(NetworkError):
    """There is no file of ImageNet weights where one was expected; the message says where was looked, and for what."""


def load_imagenet(network: Network, weights_dir: Path) -> str:
    """Fill the backbone with ImageNet weights.

    Args:
        network: A built network; its head is left alone.
        weights_dir: Folder with the file that the registry names, and optionally `SHA256SUMS`.

    Returns:
        SHA-256 of the file, lower-case hexadecimal.

    Raises:
        WeightsMissingError: The file is not there.
        NetworkError: The digest is wrong, or the arrays do not fit the backbone exactly.
    """
    spec = backbone_spec(network.name)
    path = weights_dir / spec.imagenet_file
    if not path.is_file():
        raise WeightsMissingError(
            f"The ImageNet weights of {network.name!r} are missing: looked for {spec.imagenet_file} in {weights_dir}. "
            "Put the file there (arrays by Keras variable path), name another folder, or set `weights: none` in the "
            "scenario to train from random weights."
        )
    digest = _verified_digest(path)
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if network.name == "efficientnet_lite0":
        arrays = from_port(arrays)
    _assign(network, arrays)
    return digest


def from_port(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """EfficientNet-Lite arrays of the PyTorch port under Keras paths and in Keras layout.

    The archive's kernels carry the port's shapes, (out, in, h, w) and (channels, 1, h, w), but their values still lie
    in the order of the TensorFlow original, (h, w, in, out) and (h, w, channels, 1): a transposition garbles them. It
    shows in the stem: only read this way do the variances of its outputs on photographs agree with the stored moving
    variances (correlation of the logarithms 0.99, against 0.28 transposed), and only so are photographs recognised.

    Args:
        arrays: Kernels labelled (out, in, h, w) or (channels, 1, h, w); vectors (channels).

    Returns:
        Kernels (h, w, in, out); depthwise kernels (h, w, channels, 1); vectors unchanged. The classifier is left out.
    """
    converted = {}
    for key, array in arrays.items():
        path = efficientnet_lite.keras_path(key)
        if path is None:
            continue
        if array.ndim == 4:
            out, into, height, width = array.shape
            array = array.reshape((height, width, out, into) if "depthwise" in path else (height, width, into, out))
        converted[path] = array
    return converted


def _verified_digest(path: Path) -> str:
    """The file's SHA-256, compared with the folder's list when that names the file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    sums = path.parent / "SHA256SUMS"
    if sums.is_file():
        for line in sums.read_text("utf-8").splitlines():
            expected, _, name = line.partition(" ")
            if name.strip().lstrip("*") == path.name and expected.lower() != digest:
                raise NetworkError(
                    f"{path.name} has SHA-256 {digest}; SHA256SUMS says {expected}. The file is damaged: copy it again."
                )
    return digest


def _assign(network: Network, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Assign by path; every variable of the backbone exactly once."""
    variables = variables_by_path(network.backbone)
    missing, unknown = sorted(set(variables) - set(arrays)), sorted(set(arrays) - set(variables))
    if missing or unknown:
        raise NetworkError(
            f"The ImageNet weights do not fit {network.name!r}: {len(missing)} arrays missing (first: {missing[:3]}), "
            f"{len(unknown)} unknown (first: {unknown[:3]}). Names must be the Keras variable paths of the backbone."
        )
    for path, variable in variables.items():
        if tuple(variable.shape) != arrays[path].shape:
            raise NetworkError(f"{path} has shape {arrays[path].shape}; expected {tuple(variable.shape)}.")
    for path, variable in variables.items():
        variable.assign(arrays[path].astype(np.float32))
