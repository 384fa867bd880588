"""Settings: what they are (settings.py) and how they are read (reading.py)."""

from broker.config.contradictions import PREFIX
from broker.config.kinds import Address
from broker.config.reading import SettingsError, load_settings, secret_setting, variable_of
from broker.config.settings import UNNAMED_PLUGIN_ID, Settings

__all__ = [
    "PREFIX",
    "UNNAMED_PLUGIN_ID",
    "Address",
    "Settings",
    "SettingsError",
    "load_settings",
    "secret_setting",
    "variable_of",
]
