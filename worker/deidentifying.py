"""De-identifying at intake: what is kept of a file, and under which name.

Owns the neutral names that stand for the sender's (a folder may be named after a patient) and putting the de-identified
file in the original's place. Refuses to keep the original: `db.queries.originals` marks its bytes, and housekeeping
removes them.
"""

import hashlib
from pathlib import Path

from config.kept_keys import kept_key
from config.settings import Settings
from imaging.decoders import Decoders
from imaging.frames import ImageInfo
from imaging.outcomes import Reason, RejectedFile
from imaging.text_risk import TextRisk, text_risk
from imaging.text_seen import text_seen
from worker.grouping import PLANE_FOLDERS

FOLDER, FILE = "folder", "file"


class Deidentifier:
    """De-identifies the files of one job.

    Args:
        settings: The key, and what to do about text in pixels.
        decoders: The processes in which files are read.
        workdir: Where new files are written; on the blob store's disk.
    """

    def __init__(self, settings: Settings, decoders: Decoders, workdir: Path) -> None:
        self._decoders, self._workdir = decoders, workdir
        self._refuses_text = settings.deidentify_burned_in == "refuse"
        given = settings.pseudonym_key.get_secret_value().encode() or kept_key(settings.var_dir, "pseudonym")
        self._key = hashlib.sha256(b"NeuroSight pseudonyms\0" + given).digest()
        self._folders: dict[str, str] = {}

    def name(self, path: str, sequence: int) -> str:
        """A name that says nothing but what the order of files, their folders and planes need.

        Args:
            path: As sent, with `/` between folders.
            sequence: Place in the receipt.
        """
        *folders, _ = path.split("/")
        shown, whole = [], ""
        for folder in folders:
            whole += f"{folder}/"
            plane = PLANE_FOLDERS.get(folder.casefold())
            shown.append(plane or self._folders.setdefault(whole, f"{FOLDER} {len(self._folders) + 1}"))
        return "/".join([*shown, f"{FILE} {sequence}"])

    def file(self, path: Path, sequence: int) -> tuple[Path, str, int]:
        """Writes a file anew.

        Args:
            path: The original.
            sequence: Place in the receipt.

        Returns:
            (the new file, its SHA-256, its size in bytes).

        Raises:
            RejectedFile: No readable image, or not to be de-identified.
        """
        data = self._decoders.without_identity(path, self._key)
        new = self._workdir / f"without-{sequence}"
        new.write_bytes(data)
        return new, hashlib.sha256(data).hexdigest(), len(data)

    def text_risk(self, info: ImageInfo, path: Path) -> str:
        """Judges whether a name may be written into the pixels: by the header, and by a look at some frames.

        Args:
            info: What is known of the file.
            path: The file.

        Returns:
            A value of `TextRisk`; empty: no sign of it.

        Raises:
            RejectedFile: There is a sign, and the settings refuse such images.
        """
        risk = text_risk(info)
        # A header that says that there is none is not believed here: in this mode nobody looks at the picture again.
        if risk is None:
            wanted = sorted({0, info.frames // 2, info.frames - 1})
            frames = self._decoders.read_pixels([(path, index) for index in wanted])
            if any(not isinstance(frame, RejectedFile) and text_seen(frame) for frame in frames):
                risk = TextRisk.SEEN
        if risk is not None and self._refuses_text:
            raise RejectedFile(Reason.BURNED_IN_TEXT)
        return risk or ""
