"""Reading as the settings ask for it.

Owns: the one mapping from `Settings` to limits, allowance and decoders, shared by worker, web server and command line.
Refuses: defaults of its own.
"""

from __future__ import annotations

from dataclasses import fields

from config.settings import Settings, SettingsError
from imaging.decoders import Decoders
from imaging.limits import Allowance, Limits


def limits_from(settings: Settings) -> Limits:
    """Take every limit that has a setting of the same name; the others keep the default of `Limits`.

    Args:
        settings: Validated settings.

    Raises:
        SettingsError: A value makes no usable limit.
    """
    shared = {field.name for field in fields(Limits)} & set(Settings.model_fields)
    try:
        return Limits(**{name: getattr(settings, name) for name in shared})
    except ValueError as error:
        raise SettingsError(f"The settings make no usable limits: {error}") from None


def decoders_from(settings: Settings) -> Decoders:
    """Make the pool of decoder processes; none is started yet.

    Args:
        settings: Validated settings.

    Raises:
        SettingsError: A value makes no usable limit.
    """
    allowance = Allowance(settings.decode_memory_bytes, settings.decode_cpu_s, settings.decode_wall_s)
    return Decoders(limits_from(settings), allowance)
