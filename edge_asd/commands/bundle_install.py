"""`edge-asd bundle install`, `rollback`, `status` and `test`: a bundle in, what this device runs from then on out."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from edge_asd.bundle.archive import read_sealed
from edge_asd.bundle.slot_folder import SlotFolder
from edge_asd.bundle.slots import Record, Slot
from edge_asd.commands.daemon_user import check_daemon_user
from edge_asd.commands.device_option import add_device_option
from edge_asd.config import DeviceConfig, load_config
from edge_asd.daemon.models import fitting_bundle, slot_folder, slot_from_bundle, tested_model
from edge_asd.daemon.opening import check_can_shadow
from edge_asd.daemon.trial_run import trial_run
from edge_asd.errors import UsageError


def add_actions(actions: Any) -> None:
    """Add the four actions to `edge-asd bundle`."""
    install = actions.add_parser(
        "install",
        help="install a bundle on this device",
        description="Verify a bundle, run its self-test on this device and put it into the slot that does not serve. "
        "The first one serves at once. A later one is heard in shadow, beside the one that serves, and takes over when "
        "the shadow period has passed well; see shadow in the configuration. A running daemon sees it by itself.",
    )
    install.add_argument("file", type=Path, metavar="FILE", help="the bundle, NAME-VERSION.asd")
    rollback = actions.add_parser(
        "rollback",
        help="go back to the model before",
        description="End the shadow of a new model, or, where there is none, let the model that served before serve "
        "again once it has passed its self-test.",
    )
    rollback.add_argument("--why", default="by hand", metavar="TEXT", help="kept with the model (default: %(default)s)")
    status = actions.add_parser(
        "status",
        help="show the installed models, their state and why",
        description="Show which model serves, what the other slot holds, and why.",
    )
    status.add_argument("--json", action="store_true", help="print the record as JSON")
    test = actions.add_parser(
        "test",
        help="run a bundle's self-test on this device",
        description="Verify a bundle as this device would, and run its golden windows on the engine that the "
        "configuration prefers.",
    )
    test.add_argument("file", type=Path, metavar="FILE", help="the bundle, NAME-VERSION.asd")
    for action, run in ((install, _install), (rollback, _rollback), (status, _status), (test, _test)):
        add_device_option(action)
        action.set_defaults(run=run)


def _install(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    slots = _slots_to_change(config)
    fitting_bundle(config, arguments.file)  # in the name that the user gave, ahead of any writing
    data = read_sealed(arguments.file)
    with slots.staged(data) as path:
        bundle = fitting_bundle(config, path)
        _check_is_new(slots.read(), hashlib.sha256(data).hexdigest())
        check_can_shadow(config, bundle)
        trial_run(path, arguments.config)
        why = "passed its self-test on this device"
        slot = slot_from_bundle(bundle, path).model_copy(update={"installed_utc": slots.now()})
        record = slots.change(lambda record: record.installed(slot.now("shadow", why, slots.now())))
    if record.candidate is not None and record.candidate.file == slot.file and record.serving is not None:
        print(
            f"{slot.name} {slot.version} is in slot {record.other}, in shadow beside {record.serving.name} "
            f"{record.serving.version}, which serves; it takes over after {config.shadow.period_s:g} s of "
            "normal sound of each machine, if it does well: edge-asd bundle status"
        )
    else:
        print(f"{slot.name} {slot.version} is in slot {record.active} and serves: it is the first of this device")
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, files_must_exist=False)
    slots = _slots_to_change(config)
    record = slots.read()
    why = f"rolled back: {arguments.why}"
    if record.candidate is not None and record.serving is not None:
        candidate = record.candidate
        slots.change(lambda record: record.failed(candidate.file, why, slots.now()))
        print(f"{candidate.name} {candidate.version} will not take over; {_named(record.serving)} serves on")
        return 0
    if record.fallback is not None:
        trial_run(slots.path(record.fallback), arguments.config)
    record = slots.change(lambda record: record.fallen_back(why, slots.now()))
    print(f"{_named(record.serving)} serves again, no longer {_named(record.standby)}")
    return 0


def _status(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, files_must_exist=False)
    record = slot_folder(config).read()
    if arguments.json:
        print(record.model_dump_json(indent=2))
        return 0
    console = Console(highlight=False)
    if config.bundle is not None:
        console.print(f"{config.path} names {config.bundle}: that serves, not what is installed", markup=False)
    if not record.slots:
        console.print(f"no model is installed in {slot_folder(config).folder}", markup=False)
        return 0
    table = Table("", "slot", "model", "state", "since", "why", "signed by", box=box.SIMPLE)
    for name, slot in sorted(record.slots.items()):
        serves = "serves" if name == record.active else ""
        since = f"{slot.changed_utc:%Y-%m-%d %H:%M} UTC"
        table.add_row(serves, name, _named(slot), slot.state, since, slot.why, slot.signer or "nobody")
    console.print(table)
    if record.candidate is not None:
        console.print(_compared_table(record.candidate, config.shadow.period_s))
    return 0


def _test(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config, files_must_exist=False)
    with tested_model(config, arguments.file) as model:
        manifest, pipeline = model.manifest, model.pipeline
        print(
            f"{arguments.file}: {manifest.name} {manifest.version} passes its self-test with {pipeline.engine_name} "
            f"{pipeline.precision}"
        )
    return 0


def _compared_table(candidate: Slot, period_s: float) -> Table:
    table = Table("machine", title=f"{_named(candidate)} in shadow", box=box.SIMPLE, title_justify="left")
    for heading in (f"normal of {period_s:g} s", "heard", "below threshold", "alarms alone", "missed"):
        table.add_column(heading, justify="right")
    for machine, found in candidate.compared.items():
        table.add_row(
            machine,
            f"{found.normal_s:.0f} s",
            f"{found.heard_s:.0f} s",
            f"{found.drift:.2f} times",
            str(found.extra_alarms),
            str(found.missed_alarms),
        )
    return table


def _slots_to_change(config: DeviceConfig) -> SlotFolder:
    if config.bundle is not None:
        line = config.line_of(("bundle",))
        raise UsageError(
            f"{config.path} line {line}: bundle names the file {config.bundle}, which the daemon runs whatever is "
            "installed; expected null; write bundle: null to run installed models"
        )
    check_daemon_user(config, command="edge-asd bundle ...")
    return slot_folder(config)


def _check_is_new(record: Record, sha256: str) -> None:
    serving = record.serving
    if serving is not None and serving.sha256 == sha256:
        raise UsageError(
            f"{_named(serving)} serves already, with the same bytes; expected another model; there is nothing to do"
        )


def _named(slot: Slot | None) -> str:
    return "no model" if slot is None else f"{slot.name} {slot.version}"
