"""The models of a device and the sound that they score in, which of them serves from now on out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack

from edge_asd.artifacts import CheckStop
from edge_asd.bundle.slots import Record
from edge_asd.config import DeviceConfig
from edge_asd.counters import Counters
from edge_asd.daemon.candidate import Candidate
from edge_asd.daemon.models import Model, slot_folder
from edge_asd.daemon.opening import fail_candidate, open_candidate, open_serving
from edge_asd.daemon.stopped import Stopped
from edge_asd.errors import UnavailableError
from edge_asd.shadow import Judged
from edge_asd.types import Window

LOG = logging.getLogger(__name__)

_LOOK_EVERY_S = 5.0
_SAY_EVERY_S = 60.0
_NOTE_EVERY_S = 60.0


class Succession:
    """The serving model, and one beside it that may succeed it; which is which stays for its life.

    Args:
        config: of the device.
        counters: of the daemon.
        clock: monotonic, in s.
        check_stop: is called while an engine is built; may raise Stopped.

    Raises:
        EdgeAsdError: no model can serve.
    """

    def __init__(
        self,
        config: DeviceConfig,
        *,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
        check_stop: CheckStop = lambda: None,
    ) -> None:
        self._config = config
        self._counters = counters
        self._clock = clock
        self._look_due_s = clock() + _LOOK_EVERY_S
        self._say_due_s = clock()
        self._note_due_s = clock() + _NOTE_EVERY_S
        self._slots = slot_folder(config)
        self._resources = ExitStack()
        self._heard_s: dict[str, float] = {}
        self._candidate: Candidate | None = None
        self._in_shadow: Model | None = None
        found = self._slots.read()
        try:
            self.serving: Model = open_serving(config, check_stop)
            self._resources.enter_context(self.serving.pipeline)
            self._open_candidate(check_stop)
            self._count_refused(found)
            # What is open may differ from the record: where the disk refuses, a model that failed is kept there.
            self._seen = (found.installs, *_files(self._slots.read()))
        except BaseException as error:
            self.close()
            if isinstance(error, Stopped) and config.bundle is None:
                self._slots.change_if_possible(Record.ended)
            raise

    def _open_candidate(self, check_stop: CheckStop) -> None:
        model = open_candidate(self._config, self.serving, check_stop)
        if model is not None and model.slot is not None:
            self._resources.enter_context(model.pipeline)
            self._in_shadow = model
            self._candidate = Candidate(self._config, model, model.slot.compared)
            LOG.info("model %s %s scores in shadow", model.slot.name, model.slot.version)

    def _count_refused(self, found: Record) -> None:
        """Of the models that were to serve or to be heard, those that failed on being opened."""
        if self.serving.slot is None:
            return
        in_shadow = None if self._in_shadow is None else self._in_shadow.slot
        for due, opened in ((found.serving, self.serving.slot), (found.candidate, in_shadow)):
            if due is not None and (opened is None or opened.file != due.file):
                self._counters.add("models_refused")

    def hear(self, machine: str, window: Window, judged: Judged | None) -> None:
        """Take a window and what the serving model made of it, None where its sound is not to be trusted."""
        fresh_s = window.fresh_samples / self.serving.manifest.feature_spec.sample_rate_hz
        self._heard_s[machine] = self._heard_s.get(machine, 0.0) + fresh_s
        if self._candidate is not None:
            self._candidate.hear(machine, window, judged)

    @property
    def is_over(self) -> bool:
        """Whether other models are to be opened: one takes over, is refused, or was installed; call it often.

        It is said again only after a minute, should they not have been opened.
        """
        now_s = self._clock()
        if self.serving.slot is None or now_s < self._say_due_s or not self._find_whether_over(now_s):
            return False
        self._say_due_s = now_s + _SAY_EVERY_S
        return True

    def adjust(self, config: DeviceConfig) -> None:
        """Go on with other thresholds and alarm settings of the same machines."""
        self._config = config
        if self._candidate is not None and self._in_shadow is not None:
            self._candidate = Candidate(config, self._in_shadow, self._candidate.compared)

    def _find_whether_over(self, now_s: float) -> bool:
        if self._candidate is not None and self._candidate.verdict is not None:
            self._end_shadow()
            return True
        if now_s >= self._note_due_s:
            self._note_due_s = now_s + _NOTE_EVERY_S
            self.note()
        if now_s < self._look_due_s:
            return False
        self._look_due_s = now_s + _LOOK_EVERY_S
        return self._others_are_installed()

    def _others_are_installed(self) -> bool:
        try:
            record = self._slots.read()
        except UnavailableError as error:  # what serves is in memory
            LOG.warning("%s", error)
            return False
        if (record.installs, *_files(record)) == self._seen:
            return False
        LOG.info("the installed models have changed")
        return True

    def end(self) -> None:
        """Note that the daemon's process ends in order: no crash to be held against a model."""
        if self.serving.slot is not None:
            self.note()
            self._slots.change_if_possible(Record.ended)

    def close(self) -> None:
        """Release the engines; a second call does nothing."""
        self._resources.close()

    def _end_shadow(self) -> None:
        if self._candidate is None or self._candidate.verdict is None or self._in_shadow is None:
            return
        verdict, slot = self._candidate.verdict, self._in_shadow.slot
        if slot is None:
            return
        self.note()
        if verdict.passed:
            self._counters.add("models_taken_over")
            LOG.warning("model %s %s takes over: %s", slot.name, slot.version, verdict.why)
            self._slots.change_if_possible(lambda record: record.taken_over(slot.file, verdict.why, self._slots.now()))
        else:
            self._counters.add("models_refused")
            fail_candidate(self._slots, slot, verdict.why)

    def note(self) -> None:
        """Keep what was compared so far, and that the serving model has proven itself: who hears next goes on there."""
        trial_s, serving = self._config.shadow.trial_s, self.serving.slot
        if serving is None:
            return

        def noted(record: Record) -> Record:
            if self._candidate is not None and self._in_shadow is not None and self._in_shadow.slot is not None:
                record = record.heard(self._in_shadow.slot.file, self._candidate.compared)
            is_ours = record.serving is not None and record.serving.file == serving.file
            if is_ours and max(self._heard_s.values(), default=0.0) >= trial_s:
                record = record.proven(f"scored {trial_s:g} s of sound without a crash", self._slots.now())
            return record

        self._slots.change_if_possible(noted)


def _files(record: Record) -> tuple[str | None, str | None]:
    """Those of the serving model and of the one in shadow."""
    serving, candidate = record.serving, record.candidate
    return None if serving is None else serving.file, None if candidate is None else candidate.file
