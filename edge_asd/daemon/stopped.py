"""What ends the opening of a model when the daemon is to stop."""


class Stopped(BaseException):
    """The daemon is to stop, which is no fault of an engine or a model: what catches their errors lets it through."""
