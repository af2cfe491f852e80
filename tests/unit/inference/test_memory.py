"""`inference.memory`: arrays of the size of a slice are not made of fresh pages each time."""

import resource
import sys

import numpy as np
import pytest

from inference.memory import keep_freed_memory


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a wish to the C library of Linux")
def test_slices_reuse_their_pages() -> None:
    keep_freed_memory()
    pages_of_one = 512 * 512 * 4 // 4096

    def some() -> None:
        several = [np.ones((512, 512), np.float32) for _ in range(8)]
        del several

    some()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        some()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    assert faults < 20 * 8 * pages_of_one / 10
