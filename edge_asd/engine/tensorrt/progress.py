"""TensorRT's nested build phases in, each tenth of the whole, in words, out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_asd.artifacts import CheckStop
from edge_asd.engine.tensorrt.library import Callbacks


@dataclass(slots=True)
class _Phase:
    parent: str | None
    n_steps: int
    done: int = 0


class BuildProgress:
    """How far a build is: a phase's steps count as parts of the step of the phase around it.

    Args:
        say: is told each tenth of the whole.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._phases: dict[str, _Phase] = {}
        self._told_tenths = 0

    def start(self, phase: str, parent: str | None, n_steps: int) -> None:
        """A phase begins within another, or on its own."""
        self._phases[phase] = _Phase(parent, max(n_steps, 1))

    def step(self, phase: str) -> None:
        """A step of a phase is done."""
        if phase in self._phases:
            self._phases[phase].done += 1
            self._tell(phase)

    def finish(self, phase: str) -> None:
        """A phase is over."""
        self._phases.pop(phase, None)

    def _tell(self, phase: str) -> None:
        share, name = 0.0, phase
        for _ in range(len(self._phases)):
            found = self._phases[name]
            share = min(1.0, (found.done + (share if name != phase else 0.0)) / found.n_steps)
            if found.parent not in self._phases:
                break
            name = found.parent
        tenths = int(10 * share)
        if tenths > self._told_tenths:
            self._told_tenths = tenths
            self._say(f"{name}: {10 * tenths} %")


def progress_monitor(trt: Any, say: Callable[[str], None], check_stop: CheckStop, callbacks: Callbacks) -> Any:
    """A monitor for TensorRT's builder configuration (from TensorRT 10 on); an error in a callback ends the build."""
    progress = BuildProgress(say)

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # TensorRT's package has no types
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with callbacks.kept():
                progress.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:  # noqa: ARG002 - TensorRT's signature
            with callbacks.kept():
                check_stop()
                progress.step(phase_name)
            return callbacks.raised is None

        def phase_finish(self, phase_name: str) -> None:
            with callbacks.kept():
                progress.finish(phase_name)

    return Monitor()
