"""A configuration in, what is well and what is not on this device out, each with what to do."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from edge_asd.capture.devices import CardChoice, choose_device
from edge_asd.capture.survey import SurveyedCard, survey
from edge_asd.config import ClipsSource, DeviceConfig, SoundCardSource
from edge_asd.cuda.driver import open_driver
from edge_asd.daemon.models import tested_model, verified_bundle
from edge_asd.engine.tensorrt.library import import_tensorrt
from edge_asd.errors import EdgeAsdError, UnavailableError
from edge_asd.health import Clock, clock_state
from edge_asd.messages import Topics
from edge_asd.mqtt.subscription import Subscription

Verdict: TypeAlias = Literal["good", "poor", "bad"]

_LEAST_FREE_BYTES = 100 * 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: `poor` works with less than it might, `bad` does not work."""

    subject: str
    verdict: Verdict
    text: str


def check_device(config: DeviceConfig, *, heard: frozenset[str]) -> Iterator[Finding]:
    """Looks at all that the daemon needs, one thing after the other, and ends none of it by a fault.

    heard: machines that a running daemon hears; their sound cards are in use and not opened.
    """
    yield _found("state", _state_folder, config)
    yield _disk(config)
    yield from _secrets(config)
    yield _clock(clock_state())
    yield from _sound_cards(config, heard)
    if "tensorrt" in config.engine.prefer:
        yield _gpu(config)
    yield _found("model", _model, config)
    yield _found("broker", _broker, config)


def _found(subject: str, look: Callable[[DeviceConfig], str], config: DeviceConfig) -> Finding:
    """Good with what was found, or bad with the error's own words, which say what to do."""
    try:
        return Finding(subject=subject, verdict="good", text=look(config))
    except (EdgeAsdError, OSError) as error:
        return Finding(subject=subject, verdict="bad", text=str(error))


def _state_folder(config: DeviceConfig) -> str:
    folder = config.state_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UnavailableError(
            f"state_dir {folder}: {error.strerror} for this user; expected a folder that the daemon may write; run "
            f"this as the daemon's user, or: chown edge-asd {existing}"
        ) from error
    return f"{folder} can be written"


def _disk(config: DeviceConfig) -> Finding:
    folder = next(path for path in (config.state_dir, *config.state_dir.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    used = sum(path.lstat().st_size for path in folder.rglob("*")) if folder == config.state_dir else 0
    bound = config.spool.max_bytes + (config.evidence.max_bytes or 0)
    text = f"{_mb(free)} free, {_mb(used)} used; spool and evidence may take {_mb(bound)}"
    if free < _LEAST_FREE_BYTES:
        return Finding(subject="disk", verdict="bad", text=f"{text}; messages are lost when it is full: make room")
    if free + used < bound + config.evidence.min_free_bytes:
        advice = "what is scarce goes first to the spool; make room, or lower spool.max_bytes or evidence.max_bytes"
        return Finding(subject="disk", verdict="poor", text=f"{text}; {advice}")
    return Finding(subject="disk", verdict="good", text=text)


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def _secrets(config: DeviceConfig) -> Iterator[Finding]:
    for path in (config.mqtt.password_file, config.mqtt.key_file):
        if path is None or not path.exists():
            continue  # what cannot be read shows with the broker
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            text = (
                f"{path} can be read by others (mode {mode:03o}); expected by the daemon's user alone: chmod 600 {path}"
            )
            yield Finding(subject="secrets", verdict="poor", text=text)
        else:
            yield Finding(subject="secrets", verdict="good", text=f"{path} is closed to others")


def _clock(clock: Clock) -> Finding:
    if clock.synced:
        within = "" if clock.max_error_ms is None else f" within {clock.max_error_ms:.0f} ms"
        return Finding(subject="clock", verdict="good", text=f"synchronised{within}")
    text = (
        "not synchronised, or the kernel may not be asked; messages say so (clock_synced); start a time service: "
        "timedatectl set-ntp true"
    )
    return Finding(subject="clock", verdict="poor", text=text)


def _sound_cards(config: DeviceConfig, heard: frozenset[str]) -> Iterator[Finding]:
    wanted = [
        (machine.name, machine.source) for machine in config.machines if not isinstance(machine.source, ClipsSource)
    ]
    if not wanted:
        return
    try:
        cards = survey()
    except UnavailableError as error:
        yield Finding(subject="sound card", verdict="bad", text=str(error))
        return
    closed = [str(node) for node in Path("/dev/snd").glob("pcm*c") if not os.access(node, os.R_OK | os.W_OK)]
    if closed:
        text = f"{', '.join(closed)} may not be opened by this user; add it to the group: usermod -aG audio edge-asd"
        yield Finding(subject="sound card", verdict="bad", text=text)
    for name, source in wanted:
        if name in heard:
            yield Finding(subject=f"sound of {name}", verdict="good", text="heard by the daemon that runs")
        else:
            yield _sound_card(name, source, cards)


def _sound_card(name: str, source: SoundCardSource, cards: tuple[SurveyedCard, ...]) -> Finding:
    subject = f"sound of {name}"
    choice = CardChoice(name=source.device, alsa_id=source.alsa_id, usb_path=source.usb_path)
    try:
        device = choose_device([card.device for card in cards], choice)
    except UnavailableError as error:
        return Finding(subject=subject, verdict="bad", text=str(error))
    card = next(card for card in cards if card.device == device)
    if source.channel >= device.channels:
        text = (
            f"{device.name} has {device.channels} channel(s), and channel {source.channel} was asked for; expected 0 "
            f"to {device.channels - 1}; correct it, or choose another card"
        )
        return Finding(subject=subject, verdict="bad", text=text)
    if card.trouble is not None:
        return Finding(subject=subject, verdict="bad", text=card.trouble)
    rate = "16 kHz" if card.takes_16_khz else f"{device.native_rate_hz} Hz, resampled"
    return Finding(subject=subject, verdict="good", text=f"{device.name}, channel {source.channel}, {rate}")


def _gpu(config: DeviceConfig) -> Finding:
    try:
        open_driver()
        version = import_tensorrt().__version__
    except UnavailableError as error:
        others = [name for name in config.engine.prefer if name != "tensorrt"]
        if not others:
            return Finding(subject="GPU", verdict="bad", text=str(error))
        text = f"{error}; until then {' or '.join(others)} computes on the CPU"
        return Finding(subject="GPU", verdict="poor", text=text)
    return Finding(subject="GPU", verdict="good", text=f"driver and TensorRT {version} are there")


def _model(config: DeviceConfig) -> str:
    bundle = verified_bundle(config)
    with tested_model(config, bundle.path) as model:
        manifest = bundle.manifest
        return (
            f"{manifest.name} {manifest.version} passes its self-test on {model.pipeline.engine_name} "
            f"{model.pipeline.precision}"
        )


def _broker(config: DeviceConfig) -> str:
    settings = config.mqtt.broker_settings(
        site=config.site, device=config.device, client_id=f"edge-asd-doctor-{os.getpid()}"
    )
    topics = Topics(site=config.site, device=config.device)
    with Subscription(settings, [topics.command(machine.name) for machine in config.machines]):
        return f"{settings.endpoint} takes the login{'' if settings.tls else ', in the clear'}"
