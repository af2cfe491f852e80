"""What is left beside an entry of a watched folder: one plain sentence, and the receipt of every file as CSV.

Owns the words and the two files, `NAME.reason.txt` and `NAME.receipt.csv`. Refuses to write identity: the receipt's
accession number stays empty here, for the folder may be read by whoever can mount it.
"""

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from db.jobs import Job
from db.queries import results
from db.states import JobState
from gateway.entries import Found
from imaging.outcomes import SENTENCES, Outcome, Reason

FURTHER: Mapping[str, str] = {
    "sent_before": "These bytes were sent before and are analysed once; the result is shown with the earlier slice.",
    "uid_conflict": "Another file with the same identifier but other content was received; both are analysed.",
}
NO_FILE = "It holds no file. Put at least one image (DICOM, PNG, JPEG, TIFF, BMP), folder or zip archive here."
NOTHING_TAKEN = "None of its %(files)s files can be taken; NAME.receipt.csv says why for each."
TOO_MANY = "It holds %(files)s files, more than the %(limit)s of one submission. Put the rest into another folder."
TOO_LARGE = "It holds %(size)s bytes, more than the %(limit)s of one submission. Put the rest into another folder."
GONE = "It was submitted, and its submission was deleted since."


def sentence(code: str, detail: Mapping[str, Any] | None) -> str:
    """The English sentence of a receipt's code."""
    if not code:
        return ""
    try:
        template = SENTENCES[Reason(code)]
    except ValueError:
        return FURTHER.get(code, f"The code of the reason is {code}.")
    return template % dict(detail or {})


def of_job(job: Job, lines: Sequence[Mapping[str, Any]]) -> str:
    """What became of a submission, in one sentence."""
    taken = sum(line["outcome"] in (Outcome.ACCEPTED, Outcome.DUPLICATE, "uid_conflict") for line in lines)
    if job.state == JobState.CANCELLED:
        return f"Its job {job.id} was cancelled; {taken} of {len(lines)} files had been accepted."
    if not taken:
        why = f" (reason: {job.failure_code})" if job.failure_code not in ("", "no_usable_slice") else ""
        return f"None of its {len(lines)} files holds a slice that can be analysed{why}; NAME.receipt.csv says why."
    return f"{taken} of {len(lines)} files were accepted as job {job.id}; NAME.receipt.csv says what became of each."


def not_taken(files: Iterable[Found], job_id: uuid.UUID | None) -> list[dict[str, Any]]:
    """Receipt lines of files that never came into a submission."""
    lines = []
    for file in files:
        if file.rejection is None:
            continue
        cells: dict[str, Any] = dict.fromkeys(results.RECEIPT_COLUMNS, "")
        cells.update(
            job_id=job_id or "",
            path=file.shown,
            size_bytes=file.size_bytes,
            outcome=file.rejection.outcome.value,
            reason=file.rejection.reason.value,
            detail=dict(file.rejection.detail),
            slices=0,
            notice=results.NOTICE,
        )
        lines.append(cells)
    return lines


def write(folder: Path, name: str, words: str, lines: Sequence[Mapping[str, Any]]) -> None:
    """Writes both files, whole or not at all, in place of what is there.

    Args:
        folder: `done` or `refused`.
        name: Of the entry in it.
        words: The sentence.
        lines: The receipt.
    """
    rows = [{**line, "accession_number": ""} for line in lines]
    reason, receipt = f"{name}.reason.txt", f"{name}.receipt.csv"
    _write(folder / receipt, "".join(results.receipt_csv(rows, sentence)))
    _write(folder / reason, words.replace("NAME.receipt.csv", receipt) + "\n")


def _write(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.part")
    with unfinished.open("w", encoding="utf-8", errors="replace", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
