"""The key that signs cookies and form tokens: of the settings, or else one that this installation keeps for itself."""

from config.kept_keys import kept_key
from config.settings import Settings


def secret_key(settings: Settings) -> bytes:
    """The key.

    Raises:
        SettingsError: When the key file is readable by others, or too short.
    """
    return settings.secret_key.get_secret_value().encode() or kept_key(settings.var_dir, "session")
