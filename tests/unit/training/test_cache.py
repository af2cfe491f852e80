"""The cache keeps whole arrays within its bound, and never hands out a damaged one."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from training.cache import ArrayCache
from training.errors import RunError

SHAPE = (4, 8)


def fill(array: npt.NDArray[Any]) -> bool:
    array[:] = np.arange(32).reshape(SHAPE)
    return True


def test_what_was_put_is_there(tmp_path: Path) -> None:
    assert ArrayCache(tmp_path).put("aa", SHAPE, "float16", fill)
    found = ArrayCache(tmp_path).get("aa", SHAPE, "float16")

    assert found is not None
    assert found[3, 7] == 31
    assert ArrayCache(tmp_path).get("bb", SHAPE, "float16") is None


def test_a_broken_off_array_is_not_kept(tmp_path: Path) -> None:
    assert not ArrayCache(tmp_path).put("aa", SHAPE, "float16", lambda array: False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keep", [0, 60, 150])
def test_a_cut_off_file_is_made_anew(tmp_path: Path, keep: int) -> None:
    cache = ArrayCache(tmp_path)
    cache.put("aa", SHAPE, "float16", fill)
    path = tmp_path / "aa.npy"
    path.write_bytes(path.read_bytes()[:keep])

    assert cache.get("aa", SHAPE, "float16") is None
    assert not path.exists()


def test_another_shape_is_made_anew(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path)
    cache.put("aa", SHAPE, "float16", fill)

    assert cache.get("aa", (4, 9), "float16") is None


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = ArrayCache(tmp_path, max_bytes=440)  # room for two of 192 bytes
    for age, key in ((300, "aa"), (200, "bb")):
        cache.put(key, SHAPE, "float16", fill)
        os.utime(tmp_path / f"{key}.npy", times=(time.time() - age,) * 2)
    assert cache.get("aa", SHAPE, "float16") is not None
    cache.put("cc", SHAPE, "float16", fill)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["aa.npy", "cc.npy"]


def test_parts_of_dead_processes_are_swept_and_those_of_living_ones_left(tmp_path: Path) -> None:
    old, new = tmp_path / "old.part", tmp_path / "new.part"
    old.touch()
    new.touch()
    os.utime(old, times=(time.time() - 7200,) * 2)
    ArrayCache(tmp_path).put("aa", SHAPE, "float16", fill)

    assert (old.exists(), new.exists()) == (False, True)


def test_what_can_never_fit_is_refused_early(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"takes 2.0 GiB, and the cache may hold 1.0 GiB. Choose a later layer"):
        ArrayCache(tmp_path, max_bytes=2**30).require_room(2**31)
