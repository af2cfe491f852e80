"""Layer-CAM.

Owns: its formula. Refuses: everything else (`inference.cam`).

Source: Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP 2021,
equations 5 to 7; only what speaks for the class weighs, each cell by its own gradient:

    L(i, j) = ReLU( sum_c ReLU( G_c(i, j) ) * A_c(i, j) )
"""

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def layer_cam(maps: Float32, gradients: Float32) -> Float32:
    """See `inference.cam`: (n, h, w, c) twice -> (n, h, w)."""
    return np.asarray(np.maximum(np.einsum("nhwc,nhwc->nhw", maps, np.maximum(gradients, 0)), 0), np.float32)
