"""What a command line ends with."""

import io

import pytest

from edge_asd import cli
from edge_asd.errors import ConfigError


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("device.yaml line 3: it is wrong"), 78, "edge-asd: device.yaml line 3: it is wrong\n"),
        (ZeroDivisionError("by nought"), 70, "ZeroDivisionError: by nought\n"),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error, code, said, monkeypatch, capsys):
    """A fault that the user can act on is one message, a bug its traceback, and a reader that has gone nothing."""

    def fail(_):
        raise error

    monkeypatch.setattr("edge_asd.commands.devices.run", fail)
    if isinstance(error, BrokenPipeError):
        monkeypatch.setattr("sys.stderr", io.StringIO())  # the program closes it
    assert cli.main(["devices"]) == code
    assert capsys.readouterr().err.endswith(said)
