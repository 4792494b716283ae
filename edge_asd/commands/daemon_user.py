"""A configuration in; an error out where what this user writes could not be used by the daemon."""

from __future__ import annotations

import os
import pwd

from edge_asd.config import DeviceConfig
from edge_asd.errors import UsageError


def check_daemon_user(config: DeviceConfig, *, command: str) -> None:
    """Make sure that this user is the one that the state folder belongs to; a folder that is not there yet is anyone's.

    command: that writes into it, for people.

    Raises:
        UsageError: it is another, or nobody can tell.
    """
    try:
        owner = config.state_dir.stat().st_uid
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(
            f"{config.state_dir}: cannot be looked at ({error.strerror}); expected to run as the user of the daemon, "
            f"so that it can use what is written; sudo -u USER {command}"
        ) from error
    if owner != os.geteuid():
        raise UsageError(
            f"{config.state_dir}: belongs to user {_user(owner)}; expected to run as that user, so that the daemon can "
            f"use what is written; sudo -u {_user(owner)} {command}"
        )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"
