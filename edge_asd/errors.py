"""Errors whose message says what was found, where, what was expected and what to do; each class has its exit code.

Source of the codes: sysexits.h.
"""


class EdgeAsdError(Exception):
    """A fault that the user can act on; anything else that escapes is a bug (exit code 70)."""

    exit_code = 70


class RefusedError(EdgeAsdError):
    """A command to a machine's alarm asks for what cannot be; the text is the answer to whoever sent it."""

    exit_code = 1


class UsageError(EdgeAsdError):
    """The command line asks for what cannot be."""

    exit_code = 2


class ClipError(EdgeAsdError):
    """A recorded clip cannot be used as it is."""

    exit_code = 65


class UnavailableError(EdgeAsdError):
    """A needed thing (sound card, engine, driver) is not there."""

    exit_code = 69


class TemporaryError(EdgeAsdError):
    """What failed may work when tried again; the service unit restarts."""

    exit_code = 75


class EngineError(TemporaryError):
    """An engine that worked has failed (GPU memory exhausted, a fault of the GPU); another one may take over."""


class ConfigError(EdgeAsdError):
    """The device's configuration is wrong; the service unit does not restart."""

    exit_code = 78


class BundleError(EdgeAsdError):
    """The model bundle is damaged, foreign or does not fit; the service unit does not restart."""

    exit_code = 78
