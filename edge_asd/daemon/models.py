"""A device's configuration in; its models out: verified, trusted, fitting, and tested on this device ahead of use."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_asd.artifacts import Artifacts
from edge_asd.bundle import Bundle, Manifest, PublicKey, Trust, open_bundle
from edge_asd.bundle.slot_folder import SlotFolder
from edge_asd.bundle.slots import MAX_UNCLEAN_ENDS, Record, Slot
from edge_asd.config import DeviceConfig, check_classes
from edge_asd.engine import Workload
from edge_asd.errors import BundleError, ConfigError, UnavailableError, UsageError
from edge_asd.pipeline import Pipeline, open_pipeline

LOG = logging.getLogger(__name__)

_RUN = str(uuid.uuid4())  # of this process; its id would not do, containers begin again at 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A bundle on an engine, after its self-test; slot is None where the configuration names the file itself."""

    manifest: Manifest
    sha256: str
    pipeline: Pipeline
    slot: Slot | None = None

    def threshold(self, class_name: str, configured: float | None) -> float:
        """The configured threshold of a machine, or the bundle's for its class."""
        return self.manifest.threshold(class_name).threshold if configured is None else configured


def trust_from_config(config: DeviceConfig) -> Trust:
    """Whose models may run on this device.

    Raises:
        ConfigError: a public key is none.
    """
    keys = []
    for index, text in enumerate(config.trust.public_keys):
        try:
            keys.append(PublicKey.parse(text))
        except UsageError as error:
            line = config.line_of(("trust", "public_keys", index))
            raise ConfigError(f"{config.path} line {line}: trust.public_keys[{index}]: {error}") from error
    return Trust(public_keys=tuple(keys), require_signature=config.trust.require_signature)


def slot_folder(config: DeviceConfig) -> SlotFolder:
    """The installed models of this device."""
    return SlotFolder(config.state_dir / "models", describe=slot_from_file)


def slot_from_file(path: Path) -> Slot:
    """What a model's file holds, in shadow.

    Raises:
        BundleError: it does not verify.
    """
    return slot_from_bundle(open_bundle(path), path)


def slot_from_bundle(bundle: Bundle, path: Path) -> Slot:
    """The same, of a bundle that is open."""
    manifest = bundle.manifest
    return Slot(
        file=path.name,
        sha256=bundle.sha256,
        name=manifest.name,
        version=manifest.version,
        signer=None if bundle.signer is None else str(bundle.signer),
        installed_utc=manifest.created_utc,
        state="shadow",
        why="installed",
        changed_utc=manifest.created_utc,
    )


def verified_bundle(config: DeviceConfig) -> Bundle:
    """The bundle that serves, or would: verified, trusted and fitting, but not tried on an engine.

    Raises:
        BundleError: it cannot be trusted, or none is installed.
        ConfigError: it does not fit what is listened to.
    """
    if config.bundle is not None:
        return fitting_bundle(config, config.bundle)
    slots = slot_folder(config)
    serving = slots.read().serving
    if serving is None:
        raise BundleError(_none_installed(config))
    return _slot_bundle(config, slots, serving)


@contextmanager
def tested_model(config: DeviceConfig, path: Path) -> Iterator[Model]:
    """A bundle that this device would serve, after its self-test on the engine that the configuration prefers.

    Raises:
        BundleError: it cannot be trusted, or the self-test fails.
        ConfigError: it does not fit what is listened to.
        UnavailableError: no engine runs it.
    """
    model = _model(config, fitting_bundle(config, path))
    with model.pipeline:
        yield model


def open_serving(config: DeviceConfig) -> Model:
    """The model that serves; the one before it where it crashes within its trial or does not pass its self-test.

    Raises:
        BundleError: none is installed, or none can be trusted and passes.
        ConfigError: it does not fit what is listened to.
        UnavailableError: no engine runs it.
    """
    if config.bundle is not None:
        return _model(config, fitting_bundle(config, config.bundle))
    slots = slot_folder(config)
    record = slots.read()
    if record.serving is None:
        raise BundleError(_none_installed(config))
    # Ahead of opening anything, for that may crash too.
    record = slots.change_if_possible(lambda record: record.begun(_RUN)) or record
    if record.serving and record.serving.unclean_ends >= MAX_UNCLEAN_ENDS and record.fallback:
        record = _fall_back(
            slots, record, f"the daemon crashed {record.serving.unclean_ends} times in a row on its trial"
        )
    if record.serving is None:
        raise BundleError(_none_installed(config))
    try:
        return _slot_model(config, slots, record.serving)
    except (BundleError, UnavailableError) as error:
        if record.fallback is None:
            raise
        LOG.error("%s", error)  # noqa: TRY400 - a fault of the model, not of this program
        model = _slot_model(config, slots, record.fallback)
        _fall_back(slots, record, str(error))
        return model


def open_candidate(config: DeviceConfig, serving: Model) -> Model | None:
    """The model in shadow, or None where there is none that can be heard beside the serving one; that one then failed.

    Whatever is wrong with it, the serving model is not disturbed.
    """
    if serving.slot is None:
        return None
    slots = slot_folder(config)
    candidate = slots.read().candidate
    if candidate is None:
        return None
    if candidate.unclean_ends >= MAX_UNCLEAN_ENDS:
        fail_candidate(slots, candidate, f"the daemon crashed {candidate.unclean_ends} times in a row beside it")
        return None
    try:
        model = _slot_model(config, slots, candidate)
        _check_same_windows(model.manifest, serving.manifest)
    except Exception as error:  # noqa: BLE001 - whatever stops a candidate is its own fault, never the serving model's
        fail_candidate(slots, candidate, str(error) or repr(error))
        return None
    return model


def fail_candidate(slots: SlotFolder, candidate: Slot, why: str) -> None:
    """Refuse the model in shadow."""
    LOG.error("model %s %s does not take over: %s", candidate.name, candidate.version, why)
    slots.change_if_possible(lambda record: record.failed(candidate.file, why, slots.now()))


def check_can_shadow(config: DeviceConfig, bundle: Bundle) -> None:
    """Make sure that a new bundle can be heard beside the serving one.

    Raises:
        BundleError: it looks at other windows.
    """
    slots = slot_folder(config)
    serving = slots.read().serving
    if serving is not None:
        _check_same_windows(bundle.manifest, open_bundle(slots.path(serving)).manifest)


def _check_same_windows(new: Manifest, serving: Manifest) -> None:
    found, expected = ((spec.sample_rate_hz, spec.window_samples) for spec in (new.feature_spec, serving.feature_spec))
    if found != expected:
        raise BundleError(
            f"model {new.name} {new.version}: looks at windows of {found[1]} samples at {found[0]} Hz; "
            f"expected {expected[1]} at {expected[0]} Hz, those of the serving model, so that both hear the same; "
            "empty the folder of installed models to begin with a new kind"
        )


def _fall_back(slots: SlotFolder, before: Record, why: str) -> Record:
    def fallen_back(record: Record) -> Record:
        return record.fallen_back(why, slots.now())

    record = slots.change_if_possible(fallen_back) or fallen_back(before)
    failed, back = record.standby, record.serving
    if failed is not None and back is not None:
        LOG.error("model %s %s failed, %s %s serves again: %s", failed.name, failed.version, back.name, back.version,
                  why)  # fmt: skip
    return record


def _slot_model(config: DeviceConfig, slots: SlotFolder, slot: Slot) -> Model:
    return _model(config, _slot_bundle(config, slots, slot), slot)


def _model(config: DeviceConfig, bundle: Bundle, slot: Slot | None = None) -> Model:
    if bundle.signer not in trust_from_config(config).public_keys:
        LOG.warning(
            "model %s %s is signed by %s and runs all the same: trust.require_signature is false",
            bundle.manifest.name,
            bundle.manifest.version,
            bundle.signer or "nobody",
        )
    pipeline = pipeline_from_config(config, bundle)
    return Model(manifest=bundle.manifest, sha256=bundle.sha256, pipeline=pipeline, slot=slot)


def _slot_bundle(config: DeviceConfig, slots: SlotFolder, slot: Slot) -> Bundle:
    bundle = fitting_bundle(config, slots.path(slot))
    if bundle.sha256 != slot.sha256:
        raise BundleError(
            f"{bundle.path}: has SHA-256 {bundle.sha256}; expected {slot.sha256}, that of the model that was "
            "installed; install it again: edge-asd bundle install"
        )
    return bundle


def fitting_bundle(config: DeviceConfig, path: Path) -> Bundle:
    """A bundle that this device may run, not yet tried on an engine.

    Raises:
        BundleError: it does not verify, or nobody who is trusted signed it.
        ConfigError: it does not fit what is listened to.
    """
    bundle = open_bundle(path, trust=trust_from_config(config))
    manifest = bundle.manifest
    check_classes(config, manifest.machine_classes, bundle=f"{manifest.name} {manifest.version}")
    for machine in config.machines:
        if machine.threshold is None:
            manifest.threshold(machine.listens_to)
    return bundle


def artifacts_from_config(config: DeviceConfig) -> Artifacts:
    """Where this device keeps what it builds."""
    return Artifacts(config.state_dir / "engines")


def pipeline_from_config(config: DeviceConfig, bundle: Bundle, *, prefer: Sequence[str] | None = None) -> Pipeline:
    """The bundle on the engine that the configuration, or `prefer`, names first of those that work.

    Raises:
        UnavailableError: no engine works here.
        BundleError: the self-test fails.
    """
    engine = config.engine
    return open_pipeline(
        bundle,
        prefer=prefer or engine.prefer,
        precision=engine.precision,
        threads=engine.threads,
        workload=Workload(
            n_machines=len(config.machines), hop_samples=max(machine.hop_samples for machine in config.machines)
        ),
        artifacts=artifacts_from_config(config),
    )


def _none_installed(config: DeviceConfig) -> str:
    return (
        f"{config.state_dir / 'models'}: no model is installed; expected one, since {config.path} names no bundle; "
        f"edge-asd bundle install NAME-VERSION.asd --config {config.path}"
    )
