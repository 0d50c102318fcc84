"""Every error this package raises on purpose; each message is one sentence that says what to do."""


class PoolingError(Exception):
    """Something is wrong with the model, its settings, the device or the input, and a person can put it right."""


class CheckpointError(PoolingError):
    """The checkpoint is missing, broken or of a kind not supported; the message names the file or tensor."""


class AbsentWeightsError(CheckpointError):
    """The checkpoint has no weights at all, neither whole nor broken: perhaps only its configuration was wanted."""


class DeviceError(PoolingError):
    """The wanted device is not there, or can no longer be chosen in this process."""


class OptionError(PoolingError):
    """A setting does not fit this model; the message names the setting, its value and the limit."""


class InputError(PoolingError):
    """A sequence cannot be pooled: empty, too long, out of the vocabulary, or with unsupported dimensions."""
