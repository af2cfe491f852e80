"""The reading limits that the settings ask for.

Owns: the one mapping from `Settings` to `imaging.limits.Limits`, shared by command line and worker. Refuses: defaults
of its own.
"""

from dataclasses import fields

from config.settings import Settings, SettingsError
from imaging.limits import Limits


def limits_from(settings: Settings) -> Limits:
    """Takes every limit that has a setting of the same name; the others keep the default of `Limits`.

    Raises:
        SettingsError: If a value makes no usable limit.
    """
    shared = {field.name for field in fields(Limits)} & set(Settings.model_fields)
    try:
        return Limits(**{name: getattr(settings, name) for name in shared})
    except ValueError as error:
        raise SettingsError(f"The settings make no usable limits: {error}") from None
