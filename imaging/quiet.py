"""Keeping the decoding libraries from talking.

pydicom and Pillow report odd files through `warnings` and their own loggers, and quote header values while they do:
a patient's name would end in a log. What matters of an odd file becomes a reason in `imaging.outcomes`, so this module
owns switching the libraries' own reports off, from functions and never at import. It refuses to silence anything else.
"""

from __future__ import annotations

import logging
import re
import warnings

from pydicom import config as pydicom_config

_MODULES = re.compile(r"(pydicom|PIL|pylibjpeg|openjpeg|libjpeg|rle)(\.|$)")
_FILTER = ("ignore", None, Warning, _MODULES, 0)


def silence_decoders() -> None:
    """Make the decoding libraries keep quiet; cheap, and safe to call before every file."""
    if _FILTER not in warnings.filters:
        warnings.filterwarnings("ignore", module=_MODULES.pattern)
    pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE
    for name in ("pydicom", "PIL", "pylibjpeg"):
        logger = logging.getLogger(name)
        if logger.level != logging.CRITICAL:
            logger.setLevel(logging.CRITICAL)
