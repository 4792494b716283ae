"""The systemd unit, as systemd itself reads and judges it."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_asd.errors import BundleError, ConfigError

UNIT = Path(__file__).resolve().parents[2] / "firmware_configs" / "systemd" / "edge-asd.service"
MOST_EXPOSED = 2.5


class _Repeated(dict):
    """Keeps every value of a key that is given several times."""

    def __setitem__(self, key, value):
        if isinstance(value, list) and key in self:
            value = [*self[key], *value]
        super().__setitem__(key, value)


@pytest.fixture(scope="module")
def service():
    """The unit's [Service] section: key to its values."""
    parser = configparser.RawConfigParser(strict=False, dict_type=_Repeated, delimiters="=", comment_prefixes="#")
    parser.optionxform = str
    parser.read(UNIT)
    return {key: value.split("\n") for key, value in parser["Service"].items()}


@pytest.fixture(scope="module")
def systemd_analyze():
    """A function that runs systemd-analyze; skips where it is absent or too old for --offline."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed (apt install systemd)")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.split()[1]) < 250:
        pytest.skip(f"systemd is older than 250 and cannot judge a unit that is not installed ({version.split()[1]})")

    def run(*arguments):
        return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)

    return run


def test_its_exposure_is_small(systemd_analyze):
    """`systemd-analyze security` finds at most 2.5 of 10 left open."""
    done = systemd_analyze("security", "--offline=true", "--no-pager", str(UNIT))
    found = re.search(r"Overall exposure level for edge-asd.service: ([0-9.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= MOST_EXPOSED, done.stdout


def test_systemd_understands_every_line(systemd_analyze):
    """`systemd-analyze verify` finds nothing but that the program is not installed here."""
    done = systemd_analyze("verify", str(UNIT))
    said = [line for line in done.stderr.splitlines() if "edge-asd" in line and "is not executable" not in line]
    assert said == []


def test_it_is_watched_and_started_again_but_not_for_what_stays_wrong(service):
    """Readiness and watchdog come from the daemon; only a wrong configuration or bundle ends the attempts."""
    assert service["Type"] == ["notify"]
    assert int(service["WatchdogSec"][0]) <= 120
    assert service["Restart"] == ["on-failure"]
    assert {int(code) for code in service["RestartPreventExitStatus"][0].split()} == {
        ConfigError.exit_code,
        BundleError.exit_code,
    }


def test_it_reaches_sound_cards_and_gpus_and_nothing_else(service):
    """All other devices are closed, and so is the file system but for its own state."""
    assert service["DevicePolicy"] == ["closed"]
    devices = {line.split()[0] for line in service["DeviceAllow"]}
    assert {"char-alsa", "char-nvidia*", "char-nvhost*", "/dev/nvmap"} <= devices
    assert service["ProtectSystem"] == ["strict"]
    assert service["StateDirectory"] == ["edge-asd"]
    assert service["User"] == ["edge-asd"]
    assert service["CapabilityBoundingSet"] == [""]


def test_it_may_ask_for_the_state_of_the_clock(service):
    """ProtectClock would forbid the question along with the setting of the clock."""
    assert "ProtectClock" not in service
    assert any({"adjtimex", "clock_adjtime"} <= set(line.split()) for line in service["SystemCallFilter"])
