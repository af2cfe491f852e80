"""Which services of the Procfile the settings ask for."""

from pathlib import Path

from config.settings import ROOT, load_settings
from ops.services import read_procfile, switched_off


def test_ways_in_run_only_when_they_are_set(tmp_path: Path) -> None:
    names = set(read_procfile(ROOT / "Procfile"))
    off = switched_off(load_settings(var_dir=tmp_path))
    assert off == {"listener", "watcher"}
    assert off < names
    wanted = load_settings(
        var_dir=tmp_path,
        dicom_port=11112,
        dicom_user="scanner",
        dicom_allowed_peers="MR1@10.0.0.5",
        watch_dir=tmp_path,
        watch_user="scanner",
    )
    assert switched_off(wanted) == frozenset()
