"""A configuration that runs and its file as it is now in, what has to be opened again out, made ready beside it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from edge_asd.artifacts import CheckStop
from edge_asd.config import AlarmConfig, DeviceConfig, load_config
from edge_asd.counters import Counters
from edge_asd.daemon.hearing import Hearing
from edge_asd.daemon.models import verified_bundle
from edge_asd.daemon.stopped import Stopped
from edge_asd.errors import ConfigError, EdgeAsdError
from edge_asd.messages import ModelIdentity

_FIXED = ("site", "device", "state_dir")
_WITHOUT_HEARING = frozenset({"log", "metrics", "mqtt", "spool"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A configuration that was found good; hearing is None where what listens now can go on with new limits."""

    config: DeviceConfig
    changed: frozenset[str]
    hearing: Hearing | None

    @property
    def needs_new_delivery(self) -> bool:
        """Whether spool and publisher are to be opened again."""
        return bool(self.changed & {"mqtt", "spool"})


class Reload:
    """Reads and validates the file again, and opens another model where it needs one, in a thread of its own.

    That may take minutes where an engine is built: the old configuration listens all the while.

    Args:
        running: what runs.
        reread: whether its file is read again.
        afresh: whether to hear afresh whatever it says.
        model: which serves now.
        counters: of the daemon.
        check_stop: is called while an engine is built; may raise Stopped.
    """

    def __init__(
        self,
        running: DeviceConfig,
        *,
        reread: bool,
        afresh: bool,
        model: ModelIdentity,
        counters: Counters,
        check_stop: CheckStop,
    ) -> None:
        self._running = running
        self._reread = reread
        self._afresh = afresh
        self._model = model
        self._counters = counters
        self._check_stop = check_stop
        self._prepared: Prepared | None = None
        self._refusal: EdgeAsdError | None = None
        self._thread = threading.Thread(target=self._run, name="reload", daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether `result` need not be waited for."""
        return not self._thread.is_alive()

    def result(self) -> Prepared:
        """What is to be used from now on.

        Raises:
            EdgeAsdError: the new configuration cannot be used, and why.
        """
        self._thread.join()
        if self._prepared is None:
            raise self._refusal or EdgeAsdError("the reload failed; this is a bug, see the log and report it")
        return self._prepared

    def give_up(self, within_s: float) -> None:
        """Wait so long for the end of what was begun, and release what it has opened; `check_stop` raises by now."""
        self._thread.join(within_s)
        if self._prepared is not None and self._prepared.hearing is not None:
            self._prepared.hearing.close()

    def _run(self) -> None:
        try:
            self._prepared = self._prepare()
        except EdgeAsdError as error:
            self._refusal = error
        except Stopped:
            self._refusal = EdgeAsdError("the daemon is to stop")

    def _prepare(self) -> Prepared:
        running = self._running
        config = load_config(running.path) if self._reread else running
        changed = frozenset(key for key in DeviceConfig.model_fields if getattr(config, key) != getattr(running, key))
        for key in _FIXED:
            if key in changed:
                raise ConfigError(
                    f"{config.path} line {config.line_of((key,))}: {key} is {getattr(config, key)}, and was "
                    f"{getattr(running, key)}; expected the same while the daemon runs; restart it to change that"
                )
        config.mqtt.broker_settings(site=config.site, device=config.device)  # reads the login, so that it fails here
        goes_on = (
            not self._afresh
            and not changed - _WITHOUT_HEARING - {"machines"}
            and _without_limits(config) == _without_limits(running)
            and verified_bundle(config).sha256 == self._model.sha256
        )
        hearing = None if goes_on else Hearing(config, counters=self._counters, check_stop=self._check_stop)
        return Prepared(config=config, changed=changed, hearing=hearing)


def _without_limits(config: DeviceConfig) -> list[object]:
    """The machines, but for what a listener can take over while it listens."""
    return [machine.model_copy(update={"threshold": None, "alarm": AlarmConfig()}) for machine in config.machines]
