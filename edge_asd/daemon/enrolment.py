"""Windows of a machine that no bundle knows in; what is collected of it, and the scorer of what was learned, out."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone

import numpy as np

from edge_asd.bundle.extension import MAX_WINDOWS, Extension, begun
from edge_asd.config import DeviceConfig, MachineConfig
from edge_asd.daemon.enrolment_folder import UNREADABLE, EnrolmentFolder
from edge_asd.daemon.enrolment_notes import MAX_RECENT, Collecting, Recent, Request
from edge_asd.daemon.models import Model, vector_size
from edge_asd.enroll.collector import NOT_FINITE, SPEECH, Collector, memory_with, minute_of, summed
from edge_asd.enroll.level import TOO_QUIET, is_too_quiet
from edge_asd.enroll.remembering import RememberingScorer
from edge_asd.enroll.speech import has_speech
from edge_asd.errors import EdgeAsdError, UnavailableError
from edge_asd.score import KnnScorer
from edge_asd.sensor import SensorFault
from edge_asd.types import Window

LOG = logging.getLogger(__name__)

_LOOK_EVERY_S = 2.0
_WRITE_EVERY_S = 1.0
_WRITE_AGAIN_S = 30.0  # after the disk refused it
_TELL_EVERY_S = 30.0
_NEW_SHARE = 0.05
"""The file is written again when so much came new: all writes together are 20 times its size, whatever its length."""

_RECENT_EVERY = 60  # windows between two notes of recent scores


class Enrolment:
    """One enrolled machine: collects its sound when it is asked to, and takes up what was learned of it.

    Args:
        folder: of its files.
        model: that serves.
        refuse_speech: whether windows with speech are not learned.
        clock: monotonic, in s.
    """

    def __init__(
        self,
        folder: EnrolmentFolder,
        model: Model,
        *,
        refuse_speech: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scorer = RememberingScorer(folder.encoder)
        self._folder = folder
        self._model = model
        self._spec = model.manifest.feature_spec
        self._window_s = self._spec.window_samples / self._spec.sample_rate_hz
        self._refuse_speech = refuse_speech
        self._clock = clock
        self._collector = Collector(window_s=self._window_s)
        self._collected: Extension | None = None  # while a request is there
        self._n_written = 0  # windows of it that are on disk
        self._is_unwritten = False
        self._request: Request | None = None
        self._live: Extension | None = None
        self._live_trouble: str | None = None
        self._request_trouble: str | None = None
        self._live_stamp: tuple[int, int, int] | None = None
        self._recent: deque[tuple[float, float]] = deque(maxlen=MAX_RECENT)  # (end_utc_s, score)
        self._unnoted = 0
        self._look_due_s = self._write_due_s = self._tell_due_s = clock()
        # What is asked for is looked at with the first window: until then another enrolment, of the hearing that this
        # one is to follow, may still collect.
        self._follow_live()

    @property
    def threshold(self) -> float | None:
        """Of the memory that serves; None while the machine is not enrolled."""
        calibration = self._live.facts.calibration if self._live else None
        return calibration.threshold.threshold if calibration else None

    @property
    def learning(self) -> str | None:
        """Why there are no scores yet, for people; None once the machine is enrolled."""
        if self._live is not None:
            return None
        if self._request is None and self._live_trouble is not None:
            what_to_do = f"; enroll again: edge-asd enroll {self._folder.machine} --anew"
            return (
                f"what was learned is not taken up: {self._live_trouble}"
                f"{'' if self._live_stamp == UNREADABLE else what_to_do}"
            )
        if self._request is None:
            return f"not enrolled with this model: edge-asd enroll {self._folder.machine}"
        if self._is_complete:
            return f"normal sound is collected: edge-asd enroll {self._folder.machine} ends it"
        return f"normal sound is collected, {self._request.wanted_s / 60.0:g} min of it"

    def hear(self, window: Window, score: float, fault: SensorFault | None) -> bool:
        """Take the next window, after it was scored; whether another memory serves from the next on.

        score: NaN where there is none. fault: of the ear.
        """
        changed = self._look() if self._clock() >= self._look_due_s else False
        if self._collector.is_due(window, sample_rate_hz=self._spec.sample_rate_hz):
            if self._live is not None and not changed:
                self._note_recent(window, score)
            if self._request is not None and not self._is_complete:
                self._collect(window, score, fault)
            else:
                self._collector.skip()
            self._write(now=False)
            self._tell()
        return changed

    def close(self) -> None:
        """Keep what was collected."""
        self._write(now=True)
        self._write_recent()

    def _collect(self, window: Window, score: float, fault: SensorFault | None) -> None:
        vector = self.scorer.vector
        if fault is not None:
            self._collector.refuse(fault.kind)
        elif vector is None or not np.isfinite(score):  # no engine took it: the vector is that of the window before
            self._collector.refuse(NOT_FINITE)
        elif is_too_quiet(window.wave):
            self._collector.refuse(TOO_QUIET)
        elif self._refuse_speech and has_speech(window.wave, self._spec):
            self._collector.refuse(SPEECH)
        else:
            self._collector.keep(vector, group=minute_of(window.end_utc_s), end_utc_s=window.end_utc_s)

    @property
    def _is_complete(self) -> bool:
        if self._request is None or self._collected is None:
            return False
        n_windows = self._n_windows
        return n_windows * self._window_s >= self._request.wanted_s or n_windows >= MAX_WINDOWS

    @property
    def _n_windows(self) -> int:
        return self._collector.n_kept + (len(self._collected.memory) if self._collected else 0)

    def _look(self) -> bool:
        """Whether another memory serves from now on; what is asked for is taken note of too.

        What cannot be read is looked at each time, and told once.
        """
        self._look_due_s = self._clock() + _LOOK_EVERY_S
        try:
            request = self._folder.request()
            self._request_trouble = None
        except EdgeAsdError as error:
            if str(error) != self._request_trouble:
                LOG.warning("%s: %s", self._folder.machine, error)
            self._request_trouble = str(error)
            request = self._request
        if _id(request) != _id(self._request):
            # Gone live, dropped, or dropped and asked for afresh: what is left of the request before is nobody's.
            self._collected = None if request is None else self._go_on(request)
            self._n_written = len(self._collected.memory) if self._collected else 0
            self._is_unwritten = False
            self._tell_due_s = self._clock()
            self._collector = Collector(window_s=self._window_s)
            if request is not None:
                LOG.info("%s: normal sound is collected, %.1f min", self._folder.machine, request.wanted_s / 60.0)
        elif request is not None and self._collected is not None and request != self._request:
            self._collected = self._collected.with_memory(request.left_of(self._collected.memory))
            self._n_written = len(self._collected.memory)
            self._tell_due_s = self._clock()
        self._request = request
        return self._follow_live()

    def _follow_live(self) -> bool:
        """Whether another memory serves from now on."""
        stamp = self._folder.live_stamp()
        if stamp == self._live_stamp != UNREADABLE:
            return False
        self._live_stamp = stamp
        return self._take_up()

    def _take_up(self) -> bool:
        try:
            live = self._folder.live()
            scorer = None
            if live is not None and live.facts.calibration is not None:
                scorer = KnnScorer(live.memory, live.facts.calibration.fit)
        except (EdgeAsdError, ValueError) as error:
            if str(error) != self._live_trouble:
                LOG.error("%s: what was learned is not taken up: %s", self._folder.machine, error)  # noqa: TRY400 - no bug
            self._live_trouble = str(error)
            if isinstance(error, UnavailableError):  # whoever gives it back need not exchange it
                self._live_stamp = UNREADABLE
            return False
        self._live_trouble = None
        self._live, self.scorer.enrolled = (live, scorer) if scorer is not None else (None, None)
        self._recent.clear()
        if live is not None and scorer is not None:
            LOG.info("%s: enrolled, %d windows", self._folder.machine, len(live.memory))
        return True

    def _go_on(self, request: Request) -> Extension:
        """What was collected for this request before, by this process or the one before."""
        try:
            found = self._folder.collected()
        except EdgeAsdError as error:
            LOG.warning("%s: what was collected cannot be used (%s); collecting begins anew", self._folder.machine,
                        error)  # fmt: skip
            found = None
        if found is not None and found.facts.request == request.id:
            return found
        manifest = self._model.manifest
        return begun(
            self._folder.machine,
            self._folder.encoder,
            model=f"{manifest.name} {manifest.version}",
            engine=self._model.pipeline.engine,
            vector_size=vector_size(manifest),
            request=request.id,
        )

    def _write(self, *, now: bool) -> None:
        """Keep what was collected on disk, where enough came new, or all that was asked for is there."""
        if self._collected is None or self._request is None:
            return
        if not (self._collector.has_news or self._is_unwritten):
            return
        is_much = self._n_windows - self._n_written > _NEW_SHARE * self._n_written
        is_due = (is_much or self._is_complete) and self._clock() >= self._write_due_s
        if not (now or is_due) or not self._is_asked_for:
            return
        kept, refused_s = self._collector.take()
        before = self._collected
        facts = before.facts.model_copy(
            update={
                "refused_s": summed(before.facts.refused_s, refused_s),
                "engine": self._model.pipeline.engine,
                "changed_utc": datetime.now(timezone.utc),
            }
        )
        # In memory it goes on even where the disk refuses: the next write holds it too.
        memory = self._request.left_of(memory_with(before.memory, kept))
        self._collected = Extension(facts=facts, memory=memory)
        try:
            self._folder.put(self._folder.collected_path, self._collected)
        except EdgeAsdError as error:
            LOG.warning("%s: what was collected cannot be kept: %s", self._folder.machine, error)
            self._is_unwritten = True
            self._write_due_s = self._clock() + _WRITE_AGAIN_S
            return
        self._is_unwritten = False
        self._n_written = len(self._collected.memory)
        self._write_due_s = self._clock() + _WRITE_EVERY_S

    @property
    def _is_asked_for(self) -> bool:
        """Whether what is collected is still wanted, by the disk and not by the latest look at it."""
        try:
            return _id(self._folder.request()) == _id(self._request)
        except EdgeAsdError:
            return False

    def _tell(self) -> None:
        """Let who follows know that there is sound, and how much of it is kept."""
        if self._collected is None or self._request is None or self._clock() < self._tell_due_s:
            return
        self._tell_due_s = self._clock() + _TELL_EVERY_S
        collecting = Collecting(
            request=self._request.id,
            n_windows=self._n_windows,
            refused_s=summed(self._collected.facts.refused_s, self._collector.refused_s),
        )
        try:
            self._folder.tell_collecting(collecting)
        except OSError as error:
            LOG.warning("%s: nobody can be told how much was collected (%s); make room", self._folder.machine,
                        error.strerror)  # fmt: skip

    def _note_recent(self, window: Window, score: float) -> None:
        if not np.isfinite(score):
            return
        self._recent.append((window.end_utc_s, score))
        self._unnoted += 1
        if self._unnoted >= _RECENT_EVERY:
            self._write_recent()

    def _write_recent(self) -> None:
        if not self._unnoted or self._live is None or self._live.facts.memory_sha256 is None or not self._recent:
            return
        self._unnoted = 0
        times = [end_utc_s for end_utc_s, _ in self._recent]
        recent = Recent(
            memory_sha256=self._live.facts.memory_sha256,
            begin_utc_s=min(times) - self._window_s,
            end_utc_s=max(times),
            scores=tuple(score for _, score in self._recent),
        )
        try:
            self._folder.note_recent(recent)
        except OSError as error:
            LOG.warning("%s: recent scores cannot be kept (%s); make room", self._folder.machine, error.strerror)


def _id(request: Request | None) -> str | None:
    return None if request is None else request.id


def open_enrolment(machine: MachineConfig, config: DeviceConfig, model: Model) -> Enrolment | None:
    """The enrolment of a machine; None where the bundle was trained on it.

    Raises:
        UsageError: this device's key cannot be read.
    """
    if not machine.is_enrolled:
        return None
    folder = EnrolmentFolder(config.state_dir, machine.name, model.encoder)
    return Enrolment(folder, model, refuse_speech=config.enroll.refuse_speech)
