"""Every error that skdn raises on purpose: one tree, so that a caller can catch the lot or one kind.

The message is one line for the person at the keyboard: what was found, what was expected, what to do.
"""


class SkdnError(Exception):
    """Something that the user can act on; the command line prints its message and exits with 1."""


class ConfigError(SkdnError):
    """A setting, a run directory or a training source that cannot work."""


class ModelError(SkdnError):
    """A model file that is not one of ours, or that this version cannot run."""


class RawError(SkdnError):
    """An input that is not a Bayer mosaic, or that cannot be read."""


class ProviderError(SkdnError):
    """An ONNX Runtime execution provider that was asked for and cannot run."""
