"""Every setting of a live run, with its default.

`--config FILE.toml` overrides the defaults key by key, and the command line overrides both. `configs/live.toml`
explains each key.
"""

from __future__ import annotations

from realtime_mer.config.addresses import address_text, parse_listen
from realtime_mer.config.checks import ConfigError
from realtime_mer.config.files import load_settings, settings_toml
from realtime_mer.config.osc import ControlSettings, MappedValue, OscSettings, TargetSettings
from realtime_mer.config.tables import (
    LOG_LEVELS,
    MODEL_NAMES,
    MODES,
    PCM_FORMATS,
    PREDICTION_RATES_HZ,
    THEMES,
    AudioSettings,
    DisplaySettings,
    InputSettings,
    LevelMeterSettings,
    LiveSettings,
    LogSettings,
    ModelSettings,
    QuadrantSettings,
    RecordingSettings,
)

__all__ = [
    "LOG_LEVELS",
    "MODEL_NAMES",
    "MODES",
    "PCM_FORMATS",
    "PREDICTION_RATES_HZ",
    "THEMES",
    "AudioSettings",
    "ConfigError",
    "ControlSettings",
    "DisplaySettings",
    "InputSettings",
    "LevelMeterSettings",
    "LiveSettings",
    "LogSettings",
    "MappedValue",
    "ModelSettings",
    "OscSettings",
    "QuadrantSettings",
    "RecordingSettings",
    "TargetSettings",
    "address_text",
    "load_settings",
    "parse_listen",
    "settings_toml",
]
