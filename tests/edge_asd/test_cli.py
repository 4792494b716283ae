"""What a command line ends with."""

import io
import re
import subprocess
import sys

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


def test_every_command_stands_alone(capsys):
    """Each that the help lists explains itself, and what it needs it imports itself."""
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    names = re.findall(r"^    ([a-z-]+)", capsys.readouterr().out, flags=re.MULTILINE)
    assert {"run", "watch", "check-config", "ha"} <= set(names)
    for name in names:
        with pytest.raises(SystemExit) as ended:
            cli.main([name, "--help"])
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: edge-asd {name} ")


def test_a_command_imports_nothing_of_the_daemon_beside_it():
    """`watch` runs on any computer, and at once."""
    program = "import sys; from edge_asd import cli; cli.main(['watch', '--duration', 'x'])"
    program = (
        f"try:\n {program}\nexcept SystemExit:\n print([n for n in sys.modules if n.startswith('edge_asd.daemon')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert "edge-asd watch: error: argument --duration" in done.stderr
