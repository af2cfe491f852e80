"""What may be wrong with a data set, or to be kept in mind: each code with its sentence.

Owns the codes of `TrainingDataset.problems` by which worker, web and command line speak of the same thing. Pages
translate the template and then fill it in; elsewhere it is English. Refuses to judge a data set: the worker does.
"""

from collections.abc import Mapping
from typing import Any

SENTENCES: Mapping[str, str] = {
    "dataset_no_folder": "There is no folder %(folder)s among the data sets' folders any more. Put it back there, then "
    "read it again.",
    "dataset_no_images": "There are no labelled pictures. Expected: manifest.csv, or one folder of pictures (PNG, "
    "JPEG, TIFF, BMP) for each class.",
    "dataset_missing_column": "The file manifest.csv lacks the columns: %(missing)s. It has: %(found)s. Name them in "
    "its first line; file, label and patient are needed, plane, source and box_x, box_y, box_w, box_h may follow.",
    "dataset_missing_value": "Empty values in lines %(lines)s of manifest.csv: file, label and patient must not be "
    "empty.",
    "dataset_not_text": "The file manifest.csv is not UTF-8 text. Save it as CSV in UTF-8.",
    "dataset_duplicate_file": "Named twice in manifest.csv: %(files)s. Name each file once.",
    "dataset_outside_folder": "Named in manifest.csv, but outside of the folder: %(count)s files. Name files by their "
    "path within the folder.",
    "dataset_unknown_plane": "Unknown plane in manifest.csv at %(files)s. Expected axial, coronal, sagittal, or "
    "nothing.",
    "dataset_missing_file": "Named in manifest.csv, but not there (%(count)s): %(files)s. Put them there, or take out "
    "the lines.",
    "dataset_unreadable": "Not readable as pictures (%(count)s): %(files)s. Mend or remove them.",
    "dataset_file": "%(file)s: %(why)s",
    "dataset_more_files": "And %(count)s more files that cannot be used.",
    "dataset_changed": "The folder changed while it was being read. Wait until nobody writes to it, then read it "
    "again.",
    "dataset_one_class": "There is one class, %(label)s (%(count)s slices); a classifier needs two or more. Add a "
    "folder for each class, or check the label column of manifest.csv.",
    "dataset_too_few": "There are too few slices: %(classes)s. A split 80:10:10 needs at least %(least)s of each of "
    "two classes.",
    "dataset_label_misspelt": "The label %(label)s (%(count)s slices) looks like %(near)s misspelt. Rename it to "
    "%(near)s, or read it again and say that the labels are right as they stand.",
    "dataset_nothing_reviewed": "No slice has a confirmed label that fits. Confirm slices on the pages of studies, or "
    "widen the period and the classes.",
    "dataset_class_small": "The class %(label)s has %(count)s slices of %(groups)s patients or groups of copies. "
    "Scenarios that use it and split by patient need at least %(least)s of them.",
    "dataset_no_patients": "Nothing says which slices are of one patient: every slice counts as a patient of its own, "
    "and only the check for copies keeps slices together. Measured accuracy may be too good. A column patient in "
    "manifest.csv mends that.",
    "dataset_doubtful_labels": "Pairs of copies with two different labels: %(count)s. At least one label of each pair "
    "is wrong. Look at them below.",
    "disk_full": "The server's disk is full. Tell the administrator; it is tried again by itself for half an hour.",
    "blob_missing": "A stored file is missing on the server. Tell the administrator, then register it anew.",
    "worker_lost": "The program that read it was ended several times while doing so. Read it again; if it happens "
    "again, tell the administrator.",
    "poison": "Reading it failed on every attempt for a reason of the program's own. Tell the administrator.",
}
"""A template that begins with a capital letter is to be translated."""
UNUSABLE = "It cannot be used (%(code)s)."


def english(problem: Mapping[str, Any]) -> str:
    """The English sentence of an entry {code, detail}."""
    code, values = str(problem.get("code", "")), dict(problem.get("detail") or {})
    try:
        return SENTENCES[code] % values if values else SENTENCES[code]
    except (KeyError, TypeError, ValueError):
        return UNUSABLE % {"code": code}
