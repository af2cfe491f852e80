"""Which model is used when nobody names one.

Owns: the pointer file `DEFAULT` in the folder of models. It holds one line, `<sha256>  <file name>`, the format of
`sha256sum`, so that `sha256sum -c DEFAULT` checks it without any of our software. Refuses: to guess by date or name.
"""

import re
from pathlib import Path
from typing import Final, NamedTuple

from inference.artefact import SUFFIX
from inference.errors import ArtefactError, ArtefactNotFoundError

POINTER: Final = "DEFAULT"
_LINE: Final = re.compile(r"([0-9a-f]{64}) [ *]([A-Za-z0-9._-]+)")


class ShippedModel(NamedTuple):
    """The artefact to load and the digest it must have.

    Attributes:
        path: The file.
        digest: Lower-case hexadecimal SHA-256.
    """

    path: Path
    digest: str


def default_model(models_dir: Path) -> ShippedModel:
    """Reads the pointer.

    Args:
        models_dir: Folder of models, `Settings.models_dir`.

    Raises:
        ArtefactNotFoundError: If there is no pointer, or not the file that it names.
        ArtefactError: If the pointer is not of the form above.
    """
    pointer = models_dir / POINTER
    try:
        line = pointer.read_text("utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        raise ArtefactNotFoundError(
            f"there is no default model: {pointer} is missing. Name a model with --model, set NEUROSIGHT_MODELS_DIR to "
            f"the folder that has one, or run `sha256sum NAME{SUFFIX} > {POINTER}` in the folder of models."
        ) from None
    match = _LINE.fullmatch(line)
    if match is None or not match[2].endswith(SUFFIX):
        raise ArtefactError(
            f"{pointer} holds {line[:120]!r}; expected one line: SHA-256, two spaces, the name of a {SUFFIX} file, "
            "as sha256sum writes it."
        )
    path = models_dir / match[2]
    if not path.is_file():
        raise ArtefactNotFoundError(f"{pointer} names {path.name}, which is not in {models_dir}. Restore it.")
    return ShippedModel(path, match[1])
