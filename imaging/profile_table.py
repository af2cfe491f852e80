"""The table of attributes that identify somebody: DICOM PS3.15 2026c, Table E.1-1, basic profile.

This module owns reading it from the file beside it. It refuses to say what happens to an attribute that is not in it:
`imaging.deidentify` has rules for those.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("confidentiality_profile.csv")


@cache
def actions() -> Mapping[int, str]:
    """Give tag (group * 65536 + element) -> action: `X`, `Z`, `D`, `U`, or several with slashes."""
    with FILE.open(encoding="ascii", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {int(row["group"], 16) << 16 | int(row["element"], 16): row["action"] for row in rows}
