"""Every error of the workers."""


class WorkerError(Exception):
    """The base of the workers' errors."""


class SettingError(WorkerError):
    """The environment lacks a setting, or holds one that cannot be used."""
