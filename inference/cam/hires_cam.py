"""HiResCAM.

Owns: its formula. Refuses: everything else (`inference.cam`).

Source: Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural
networks", arXiv 2011.08891, equation 5; the gradient is not averaged over the cells:

    L(i, j) = ReLU( sum_c G_c(i, j) * A_c(i, j) )

Behind global average pooling every cell has the same gradient, so that at the last convolution of our networks it is
Grad-CAM but for a factor.
"""

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]


def hires_cam(maps: Float32, gradients: Float32) -> Float32:
    """See `inference.cam`: (n, h, w, c) twice -> (n, h, w)."""
    return np.asarray(np.maximum(np.einsum("nhwc,nhwc->nhw", maps, gradients), 0), np.float32)
