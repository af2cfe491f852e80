"""Grad-CAM.

Owns: its formula. Refuses: everything else (`inference.cam`).

Source: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
equations 1 and 2: with Z = h * w cells,

    alpha_c = 1/Z * sum_ij G_c(i, j)        L(i, j) = ReLU( sum_c alpha_c * A_c(i, j) )
"""

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def grad_cam(maps: Float32, gradients: Float32) -> Float32:
    """See `inference.cam`: (n, h, w, c) twice -> (n, h, w)."""
    alpha = gradients.mean(axis=(1, 2))
    return np.asarray(np.maximum(np.einsum("nhwc,nc->nhw", maps, alpha), 0), np.float32)
