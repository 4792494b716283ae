"""A device's configuration in; its models out: verified, trusted, fitting, and tested on this device ahead of use."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_asd.artifacts import Artifacts, CheckStop
from edge_asd.bundle import EMBEDDING_SIZE, Bundle, Encoder, Manifest, Precision, PublicKey, Trust, open_bundle
from edge_asd.bundle.slot_folder import SlotFolder
from edge_asd.bundle.slots import Slot
from edge_asd.config import DeviceConfig, MachineConfig, check_classes
from edge_asd.engine import Workload
from edge_asd.errors import BundleError, ConfigError, UsageError
from edge_asd.pipeline import Pipeline, open_pipeline

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A bundle on an engine, after its self-test.

    encoder: whose vectors memories that are enrolled here hold. slot: None where the configuration names the file.
    """

    manifest: Manifest
    sha256: str
    pipeline: Pipeline
    encoder: Encoder
    slot: Slot | None = None

    def threshold(self, machine: MachineConfig) -> float:
        """The configured threshold of a machine, or the bundle's for its class and scorer."""
        if machine.threshold is not None:
            return machine.threshold
        return self.manifest.threshold(machine.listens_to, machine.scorer).threshold


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
        raise none_installed(config)
    return slot_bundle(config, slots, serving)


@contextmanager
def tested_model(config: DeviceConfig, path: Path) -> Iterator[Model]:
    """A bundle that this device would serve, after its self-test on the engine that the configuration prefers.

    Raises:
        BundleError: it cannot be trusted, or the self-test fails.
        ConfigError: it does not fit what is listened to.
        UnavailableError: no engine runs it.
    """
    model = model_from_bundle(config, fitting_bundle(config, path))
    with model.pipeline:
        yield model


def model_from_bundle(
    config: DeviceConfig, bundle: Bundle, slot: Slot | None = None, *, check_stop: CheckStop = lambda: None
) -> Model:
    """The bundle on an engine, after its self-test; what nobody trusted signed is told.

    Raises:
        UnavailableError: no engine runs it.
        BundleError: the self-test fails.
    """
    if bundle.signer not in trust_from_config(config).public_keys:
        LOG.warning(
            "model %s %s is signed by %s and runs all the same: trust.require_signature is false",
            bundle.manifest.name,
            bundle.manifest.version,
            bundle.signer or "nobody",
        )
    pipeline = pipeline_from_config(config, bundle, check_stop=check_stop)
    encoder = encoder_of(bundle, pipeline.precision)
    return Model(manifest=bundle.manifest, sha256=bundle.sha256, pipeline=pipeline, encoder=encoder, slot=slot)


def encoder_of(bundle: Bundle, precision: Precision) -> Encoder:
    """What makes the vectors that a device learns machines by: of the feature map where the network puts it out.

    A feature map tells sound apart that no class was trained on; the embedding has kept what tells the classes apart.

    Raises:
        BundleError: the bundle has no network of that precision.
    """
    return Encoder(
        sha256=hashlib.sha256(bundle.onnx_model(precision)).hexdigest(),
        precision=precision,
        layer="embedding" if bundle.manifest.feature_map_size is None else "feature_map",
        feature_spec=bundle.manifest.feature_spec,
    )


def vector_size(manifest: Manifest) -> int:
    """Length of those vectors."""
    return manifest.feature_map_size or EMBEDDING_SIZE


def slot_bundle(config: DeviceConfig, slots: SlotFolder, slot: Slot) -> Bundle:
    """An installed bundle that this device may run, with the bytes that were installed.

    Raises:
        BundleError: it does not verify, nobody who is trusted signed it, or it is another.
        ConfigError: it does not fit what is listened to.
    """
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
        if machine.is_enrolled:
            continue
        manifest.check_scorer(machine.listens_to, machine.scorer)
        if machine.threshold is None:
            manifest.threshold(machine.listens_to, machine.scorer)
    return bundle


def artifacts_from_config(config: DeviceConfig, *, check_stop: CheckStop = lambda: None) -> Artifacts:
    """Where this device keeps what it builds."""
    return Artifacts(config.state_dir / "engines", check_stop=check_stop)


def pipeline_from_config(
    config: DeviceConfig,
    bundle: Bundle,
    *,
    prefer: Sequence[str] | None = None,
    check_stop: CheckStop = lambda: None,
) -> Pipeline:
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
        artifacts=artifacts_from_config(config, check_stop=check_stop),
    )


def none_installed(config: DeviceConfig) -> BundleError:
    """What to raise on a device without a model."""
    return BundleError(
        f"{config.state_dir / 'models'}: no model is installed; expected one, since {config.path} names no bundle; "
        f"edge-asd bundle install NAME-VERSION.asd --config {config.path}"
    )
