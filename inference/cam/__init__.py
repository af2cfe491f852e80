"""Ways to turn feature maps and gradients into a heatmap, side by side.

Owns: one small file a method, each with its paper's equation, all of one form, so that they can be compared on the same
arrays (`training.faithfulness`). What is served is Grad-CAM in closed form (`inference.gradcam`); the one here is the
same formula on gradients from back-propagation. Refuses: to compute gradients, to choose among methods.

Every method takes maps A and gradients G = d s_k / d A of the explained class's score, both float32 (n, h, w, c), and
gives a map float32 (n, h, w), 0 or more, not normalised.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from inference.cam.grad_cam import grad_cam
from inference.cam.grad_cam_plus_plus import grad_cam_plus_plus
from inference.cam.hires_cam import hires_cam
from inference.cam.layer_cam import layer_cam

Float32 = npt.NDArray[np.float32]

METHODS: Mapping[str, Callable[[Float32, Float32], Float32]] = MappingProxyType(
    {
        "Grad-CAM": grad_cam,
        "Grad-CAM++": grad_cam_plus_plus,
        "HiResCAM": hires_cam,
        "Layer-CAM": layer_cam,
    }
)

__all__ = ["METHODS", "grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam"]
