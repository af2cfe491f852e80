"""How numbers, times and digests look to people, in their language.

Owns the template filters. Refuses to compute anything that a query should have answered.
"""

from datetime import datetime

from flask import Flask
from flask_babel import format_datetime, format_decimal, format_percent, gettext, ngettext

from config.version import code_version

_STEPS = (("GB", 1024**3), ("MB", 1024**2), ("KB", 1024))


def init_app(app: Flask) -> None:
    """Adds the filters."""
    app.jinja_env.filters.update(
        moment=moment,
        percent=percent,
        size=size,
        short=short,
        duration=duration,
        number=format_decimal,
        dicom_date=dicom_date,
    )
    app.jinja_env.globals.update(code_version=code_version(), api_root="/api/v1")


def moment(value: datetime | None, *, seconds: bool = False) -> str:
    """A point in time in UTC, saying so: readers sit in several time zones."""
    return f"{format_datetime(value, 'd MMM y, HH:mm:ss' if seconds else 'd MMM y, HH:mm')} UTC" if value else "–"


def percent(value: float) -> str:
    """A probability with one decimal; never rounded up to certainty."""
    shown = min(value, 0.999) if value < 1 else value
    return str(format_percent(shown, "#,##0.0 %"))


def size(value: int | None) -> str:
    """A number of bytes."""
    if value is None:
        return "–"
    for unit, step in _STEPS:
        if value >= step:
            return f"{format_decimal(round(value / step, 1))} {unit}"
    return f"{value} B"


def short(digest: str | None) -> str:
    """The first twelve digits of a digest."""
    return (digest or "")[:12]


def duration(seconds: float | None) -> str:
    """A waiting time in plain words; empty when it is not known."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    if whole < 5:
        return str(gettext("a few seconds"))
    if whole < 90:
        return str(ngettext("about %(num)d second", "about %(num)d seconds", whole))
    minutes = round(whole / 60)
    if minutes < 90:
        return str(ngettext("about %(num)d minute", "about %(num)d minutes", minutes))
    hours = round(minutes / 60)
    return str(ngettext("about %(num)d hour", "about %(num)d hours", hours))


def dicom_date(value: str) -> str:
    """A DICOM date YYYYMMDD as YYYY-MM-DD; anything else as it is."""
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if len(value) == 8 and value.isdigit() else value
