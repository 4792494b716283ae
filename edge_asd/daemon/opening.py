"""A device's configuration in; the model that serves and the one in shadow out, opened, or what failed set aside."""

from __future__ import annotations

import logging
import uuid

from edge_asd.artifacts import CheckStop
from edge_asd.bundle import Bundle, Manifest, open_bundle
from edge_asd.bundle.slot_folder import SlotFolder
from edge_asd.bundle.slots import MAX_UNCLEAN_ENDS, Record, Slot
from edge_asd.config import DeviceConfig
from edge_asd.daemon.models import Model, fitting_bundle, model_from_bundle, none_installed, slot_bundle, slot_folder
from edge_asd.errors import BundleError, UnavailableError

LOG = logging.getLogger(__name__)

_RUN = str(uuid.uuid4())  # of this process; its id would not do, containers begin again at 1


def open_serving(config: DeviceConfig, check_stop: CheckStop) -> Model:
    """The model that serves; the one before it where it crashes within its trial or does not pass its self-test.

    Raises:
        BundleError: none is installed, or none can be trusted and passes.
        ConfigError: it does not fit what is listened to.
        UnavailableError: no engine runs it.
    """
    if config.bundle is not None:
        return model_from_bundle(config, fitting_bundle(config, config.bundle), check_stop=check_stop)
    slots = slot_folder(config)
    record = slots.read()
    if record.serving is None:
        raise none_installed(config)
    # Ahead of opening anything, for that may crash too.
    record = slots.change_if_possible(lambda record: record.begun(_RUN)) or record
    if record.serving and record.serving.unclean_ends >= MAX_UNCLEAN_ENDS and record.fallback:
        record = _fall_back(
            slots, record, f"the daemon crashed {record.serving.unclean_ends} times in a row on its trial"
        )
    if record.serving is None:
        raise none_installed(config)
    try:
        return _slot_model(config, slots, record.serving, check_stop)
    except (BundleError, UnavailableError) as error:
        if record.fallback is None:
            raise
        LOG.error("%s", error)  # noqa: TRY400 - a fault of the model, not of this program
        model = _slot_model(config, slots, record.fallback, check_stop)
        _fall_back(slots, record, str(error))
        return model


def open_candidate(config: DeviceConfig, serving: Model, check_stop: CheckStop) -> Model | None:
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
        bundle = slot_bundle(config, slots, candidate)
        _check_same_windows(bundle.manifest, serving.manifest)
        return model_from_bundle(config, bundle, candidate, check_stop=check_stop)
    except Exception as error:  # noqa: BLE001 - whatever stops a candidate is its own fault, never the serving model's
        fail_candidate(slots, candidate, str(error) or repr(error))
        return None


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


def _slot_model(config: DeviceConfig, slots: SlotFolder, slot: Slot, check_stop: CheckStop) -> Model:
    return model_from_bundle(config, slot_bundle(config, slots, slot), slot, check_stop=check_stop)
