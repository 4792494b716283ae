"""Files of the device with random bytes altered: each is refused with its reason or set aside, and nothing crashes."""

from __future__ import annotations

import logging
import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.faults.rig import EXAMPLE, Outcome, Rig, device_config, machine
from edge_asd.bundle import open_bundle
from edge_asd.config import load_config
from edge_asd.daemon import Daemon
from edge_asd.errors import BundleError, ConfigError
from edge_asd.outbox import Outbox
from edge_asd.systemd import ServiceManager
from edge_asd.types import OutgoingMessage

_SPOOL_BYTES = 2**20


def altered_bundles(folder: Path, chance: random.Random, *, cases: int) -> Outcome:
    """Every altered bundle is refused."""
    outcome = Outcome()
    whole = next(EXAMPLE.glob("*.asd")).read_bytes()
    path = folder / "altered-1.0.0.asd"
    for _ in range(cases):
        path.write_bytes(_altered(whole, chance))
        try:
            open_bundle(path)
        except BundleError:
            continue
        except Exception as error:  # noqa: BLE001 - which one it is, is the finding
            outcome.expect(False, f"an altered bundle ended in {error!r}")
        else:
            outcome.expect(False, "an altered bundle was taken")
    outcome.figures["cases"] = float(cases)
    return outcome


def altered_configs(folder: Path, chance: random.Random, *, cases: int) -> Outcome:
    """An altered configuration is refused with its line, or is another valid one."""
    outcome = Outcome()
    path = folder / "altered.yaml"
    whole = yaml.safe_dump(device_config(folder, "mqtt://localhost")).encode()
    refused = 0
    for _ in range(cases):
        path.write_bytes(_altered(whole, chance))
        try:
            load_config(path)
        except ConfigError:
            refused += 1
        except Exception as error:  # noqa: BLE001 - which one it is, is the finding
            outcome.expect(False, f"an altered configuration ended in {error!r}")
    outcome.figures |= {"cases": float(cases), "refused": float(refused)}
    return outcome


def altered_spools(folder: Path, chance: random.Random, *, cases: int) -> Outcome:
    """A spool that was altered while nobody had it open goes on, and gives no number of its machine twice."""
    outcome = Outcome()
    logging.getLogger("edge_asd").setLevel(logging.CRITICAL)  # it rightly says each time what it found
    origin = folder / "origin"
    with_messages = Outbox(origin / "spool.sqlite", max_bytes=_SPOOL_BYTES)
    for number in range(200):
        with_messages.put_many([_message(number)])
    last = with_messages.put_many([_message(200)])[0]
    with_messages.close()
    set_aside = 0
    for _ in range(cases):
        copy = folder / "copy"
        shutil.copytree(origin, copy)
        victim = chance.choice([path for path in copy.iterdir() if path.stat().st_size])
        victim.write_bytes(_altered(victim.read_bytes(), chance))
        try:
            outbox = Outbox(copy / "spool.sqlite", max_bytes=_SPOOL_BYTES)
            pending = outbox.pending(limit=1_000, after=0)
            seqs = outbox.put_many([_message(201)])
            outcome.expect(bool(seqs) and seqs[0] > last, f"number {seqs} was given after {last}")
            outbox.delete([message.row_id for message in pending])
            outbox.close()
            set_aside += len(list(copy.glob("*damaged*"))) > 0
        except Exception as error:  # noqa: BLE001 - which one it is, is the finding
            outcome.expect(False, f"an altered {victim.name} ended in {error!r}")
        shutil.rmtree(copy)
    outcome.figures |= {"cases": float(cases), "set_aside": float(set_aside)}
    return outcome


def altered_states(rig: Rig, chance: random.Random, *, cases: int, processes: int) -> Outcome:
    """A daemon many of whose state files were altered starts and scores; none of them makes it end.

    cases: altered files; each start finds half of its own altered. processes: starts that are processes of their own;
    the others run in this one.
    """
    outcome = Outcome()
    logging.getLogger("edge_asd").setLevel(logging.CRITICAL)  # it rightly says each time what it found
    origin = rig.folder / "state"
    _leave_state(rig, origin)
    altered = starts = 0
    while altered < cases:
        folder = rig.folder / f"state-{starts}"
        shutil.copytree(origin, folder)
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
        victims = chance.sample(files, (len(files) + 1) // 2)
        for victim in victims:
            victim.write_bytes(_altered(victim.read_bytes(), chance))
        start = _start_a_process if starts < processes else _start_here
        fault = start(rig, state_dir=str(folder), device=f"altered-{starts}")
        names = ", ".join(str(victim.relative_to(folder)) for victim in victims)
        outcome.expect(fault is None, f"altered {names}: {fault}")
        shutil.rmtree(folder)
        altered += len(victims)
        starts += 1
    outcome.figures |= {"cases": float(altered), "starts": float(starts), "processes": float(processes)}
    return outcome


def _leave_state(rig: Rig, folder: Path) -> None:
    """Leave what a daemon keeps: spool with its log, evidence, what the ears have learned."""
    ended = rig.daemon()
    give_up_s = time.monotonic() + 120.0
    while not list(folder.glob("evidence/*.json")) and time.monotonic() < give_up_s:
        time.sleep(0.1)
    ended.terminate()
    ended.wait(60)
    killed = rig.daemon()
    rig.next_message_s(60.0)
    killed.kill()
    killed.wait(20)
    kinds = {path.suffix for path in folder.rglob("*")}
    if not kinds >= {".sqlite", ".json", ".flac", ".ceiling", ".mark"}:
        raise RuntimeError(f"the daemon left {sorted(kinds)} alone; expected evidence and what the ears learned too")


def _start_a_process(rig: Rig, **changes: Any) -> str | None:
    """What a daemon did wrong that should start and score."""
    daemon = rig.daemon(**changes)
    scored = rig.next_message_s(30.0) < 30.0
    code = daemon.poll()
    daemon.kill()
    daemon.wait(20)
    return None if scored and code is None else f"no score within 30 s, exit code {code}"


def _start_here(rig: Rig, **changes: Any) -> str | None:
    """The same, of one within this process."""
    machines = [machine(f"motor-{number}", f"M{number}", speed=1_000.0) for number in (1, 2)]
    path = rig.folder / "here.yaml"
    config = device_config(rig.folder, rig.broker.url, machines=machines, metrics={"port": None}, **changes)
    config["engine"] = {"prefer": ["onnxruntime"]}  # which opens soonest
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    scored = False

    def stop_after_a_score() -> None:
        nonlocal scored
        give_up_s = time.monotonic() + 30.0
        while not scored and time.monotonic() < give_up_s:
            time.sleep(0.01)
            scored = any(each.score is not None for each in daemon.report().machines)
        daemon.request_stop()

    try:
        with Daemon(load_config(path), service=ServiceManager({})) as daemon:
            watcher = threading.Thread(target=stop_after_a_score)
            watcher.start()
            daemon.run()
            watcher.join()
    except Exception as error:  # noqa: BLE001 - which one it is, is the finding
        return repr(error)
    return None if scored else "no score within 30 s"


def _message(number: int) -> OutgoingMessage:
    return OutgoingMessage(machine="machine", leaf="score", retain=False, payload={"score": number})


def _altered(whole: bytes, chance: random.Random) -> bytes:
    """One to eight bytes are others, or the end is missing."""
    data = bytearray(whole)
    if chance.random() < 0.1:
        return bytes(data[: chance.randrange(len(data))])
    for _ in range(chance.randrange(1, 9)):
        data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    return bytes(data)
