"""When off-peak hours are, by the server's own clock.

Owns this one calculation. Refuses time zones: a hospital's server stands in the hospital.
"""

from datetime import datetime, timedelta

from config.settings import Settings


def seconds_until(now: datetime, settings: Settings) -> float:
    """How long it is until off-peak hours begin; 0 within them, and where both hours are the same.

    Args:
        now: The time, of the server's zone.
        settings: `off_peak_from_hour` and `off_peak_to_hour`; the second may be of the next day.
    """
    begin, end = settings.off_peak_from_hour, settings.off_peak_to_hour
    within = begin <= now.hour < end if begin <= end else now.hour >= begin or now.hour < end
    if within or begin == end:
        return 0.0
    start = now.replace(hour=begin, minute=0, second=0, microsecond=0)
    if start <= now:
        start += timedelta(days=1)
    return (start - now).total_seconds()
