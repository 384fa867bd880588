"""Settings: what they are (settings.py) and how they are read (reading.py)."""

from broker.config.reading import PREFIX, SettingsError, load_settings, secret_setting, variable_of
from broker.config.settings import UNNAMED_PLUGIN_ID, Address, Settings

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
