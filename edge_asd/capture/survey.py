"""The machine in, its sound cards and what each can do out; asked in a process of its own, since drivers may hang."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass

from edge_asd.capture.devices import SoundDevice, list_devices, takes_rate
from edge_asd.errors import UnavailableError

_TIMEOUT_S = 15.0
_RATE_HZ = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyedCard:
    """A sound card that can record; takes_16_khz is None where it cannot be opened now, and trouble then says why."""

    device: SoundDevice
    takes_16_khz: bool | None
    trouble: str | None


def survey(*, timeout_s: float = _TIMEOUT_S) -> tuple[SurveyedCard, ...]:
    """Return all cards that can record.

    Raises:
        UnavailableError: PortAudio is not installed, or does not answer.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edge_asd.capture.survey"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            cwd="/",  # Python looks for modules where it is started
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(
            f"PortAudio did not list the sound cards within {timeout_s:g} s; expected an answer at once; a driver or "
            "the sound server hangs: restart it, or unplug the card"
        ) from error
    answer = (done.stdout.decode().splitlines() or [""])[-1]
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip()[-200:]
        raise UnavailableError(answer or f"listing the sound cards ended with code {done.returncode}: {words}")
    return tuple(
        SurveyedCard(device=SoundDevice(**card["device"]), takes_16_khz=card["takes_16_khz"], trouble=card["trouble"])
        for card in json.loads(answer)
    )


def _look_at(device: SoundDevice) -> SurveyedCard:
    try:
        return SurveyedCard(device=device, takes_16_khz=takes_rate(device, 1, _RATE_HZ), trouble=None)
    except UnavailableError as error:
        return SurveyedCard(device=device, takes_16_khz=None, trouble=str(error))


def _main() -> int:
    """The last line on stdout is the answer: JSON, or with exit code 1 what is wrong."""
    try:
        answer, code = json.dumps([asdict(_look_at(device)) for device in list_devices()]), 0
    except UnavailableError as error:
        answer, code = str(error), 1
    sys.stdout.write(f"{answer}\n")
    return code


if __name__ == "__main__":
    sys.exit(_main())
