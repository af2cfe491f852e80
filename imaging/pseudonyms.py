"""Names for what must not be named: pseudonyms, replaced UIDs and shifted dates, all by a keyed hash.

This module owns the rules. The same key gives the same pseudonym for the same original, whichever file it stands in,
on every machine and at every time; without the key nobody can compute one from the other, nor try out names. It refuses
to keep anything: there is no table from which a pseudonym could be turned back.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from datetime import datetime, timedelta

KEY_BYTES = 32
SHIFT_DAYS = 3652
"""Dates go back by 1 to this many days, the same number for all files of a patient."""

_DICOM_ROOT = "1.2.840.10008."


class Pseudonyms:
    """Pseudonyms of one patient.

    Args:
        key: Secret, at least 16 bytes.
        patient: What tells the patient apart, as the file says it.
    """

    def __init__(self, key: bytes, patient: str) -> None:
        self._key, self._patient = key, patient
        number = int.from_bytes(self._hash("shift", patient)[:8], "big")
        self._shift = timedelta(days=1 + number % SHIFT_DAYS)

    @property
    def patient(self) -> str:
        """Name and ID to be used in place of the patient's: `NS-` and 16 letters and digits (80 bits)."""
        return "NS-" + base64.b32encode(self._hash("patient", self._patient)[:10]).decode("ascii")

    def uid(self, original: str) -> str:
        """Replace a UID by one under 2.25 (PS3.5 B.2); UIDs that DICOM itself registers stay as they are."""
        found = original.strip("\0 ")
        if not found or found.startswith(_DICOM_ROOT):
            return found
        return "2.25." + str(int.from_bytes(self._hash("uid", found)[:16], "big"))

    def date(self, original: str) -> str:
        """Shift a DA or the date in front of a DT; empty when it is no date.

        Args:
            original: `YYYYMMDD`, with dots as in old files, or followed by a time.
        """
        found = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})(\d{0,6}(?:\.\d{1,6})?(?:[+-]\d{4})?)", original.strip("\0 "))
        if found is None:
            return ""
        try:
            day = datetime(int(found[1]), int(found[2]), int(found[3])) - self._shift
        except (ValueError, OverflowError):
            return ""
        return f"{day:%Y%m%d}".rjust(8, "0") + found[4]

    def _hash(self, purpose: str, original: str) -> bytes:
        return hmac.new(self._key, f"{purpose}\0{original}".encode("utf-8", "surrogateescape"), hashlib.sha256).digest()
