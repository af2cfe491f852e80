"""Grad-CAM++.

Owns: its formula. Refuses: everything else (`inference.cam`).

Source: Chattopadhay et al., "Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep Convolutional
Networks", WACV 2018, equations 7, 10 and 19. With Y = exp(s), whose higher derivatives are powers of G,

    a_c(i, j) = G_c(i, j)^2 / ( 2 G_c(i, j)^2 + sum_ab A_c(a, b) * G_c(i, j)^3 ), 0 where G is 0
    w_c = sum_ij a_c(i, j) * ReLU( G_c(i, j) )        L(i, j) = ReLU( sum_c w_c * A_c(i, j) )
"""

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def grad_cam_plus_plus(maps: Float32, gradients: Float32) -> Float32:
    """See `inference.cam`: (n, h, w, c) twice -> (n, h, w)."""
    # Both sides divided by G^2, which may be too small to be squared.
    below = 2.0 + maps.sum(axis=(1, 2), keepdims=True) * gradients
    share = np.where((gradients != 0) & (below != 0), 1.0 / np.where(below == 0, 1.0, below), 0.0)
    weights = (share * np.maximum(gradients, 0)).sum(axis=(1, 2))
    return np.asarray(np.maximum(np.einsum("nhwc,nc->nhw", maps, weights), 0), np.float32)
