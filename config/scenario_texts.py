"""The scenario files that come with the program, as texts.

Owns which names may be chosen and the folder they lie in, so that web can offer them without importing training.
Refuses to read what they say: `training.scenario_files` does; and any name that is not in the folder.
"""

from pathlib import Path

from config.settings import ROOT

FOLDER = ROOT / "config" / "scenarios"


def names() -> list[str]:
    """File names, sorted."""
    return sorted(path.name for path in FOLDER.glob("*.yaml"))


def read(name: str) -> str:
    """The text of one.

    Raises:
        KeyError: There is no such file.
    """
    if name not in names():
        raise KeyError(f"received {name[:100]!r}; expected one of {', '.join(names())}")
    return Path(FOLDER / name).read_text(encoding="utf-8")
