"""A configuration and a machine's name in, all that its enrolment needs of this device out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edge_asd.bundle import Bundle
from edge_asd.config import DeviceConfig, MachineConfig
from edge_asd.daemon.enrolment_folder import EnrolmentFolder
from edge_asd.daemon.models import encoder_of, vector_size, verified_bundle
from edge_asd.enroll.clips import ClipLearner
from edge_asd.errors import UsageError
from edge_asd.pipeline import Pipeline, open_pipeline
from edge_asd.sensor import SensorSettings

_CPU_ENGINES = ("openvino", "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Site:
    """What an enrolment needs: the model that serves, on an engine of the CPU beside the daemon's, and its files."""

    config: DeviceConfig
    machine: MachineConfig
    bundle: Bundle
    pipeline: Pipeline
    folder: EnrolmentFolder

    @property
    def model(self) -> str:
        """Name and version of the model."""
        return f"{self.bundle.manifest.name} {self.bundle.manifest.version}"

    @property
    def window_s(self) -> float:
        """Length of a window."""
        return self.pipeline.spec.window_samples / self.pipeline.spec.sample_rate_hz

    @property
    def vector_size(self) -> int:
        """Of what is learned."""
        return vector_size(self.bundle.manifest)

    def clip_learner(self, *, channel: int | None) -> ClipLearner:
        """What hears clips of the machine as the daemon would; channel: of clips that hold several."""
        return ClipLearner(
            self.pipeline,
            self.folder.encoder,
            settings=SensorSettings(**self.machine.sensor.model_dump(exclude={"baseline_h"})),
            refuse_speech=self.config.enroll.refuse_speech,
            channel=channel,
        )


def machine_of(config: DeviceConfig, name: str) -> MachineConfig:
    """The machine of that name, which must be one that is enrolled.

    Raises:
        UsageError: there is none, or a bundle was trained on it.
    """
    names = [machine.name for machine in config.machines]
    if name not in names:
        raise UsageError(f"{config.path} has no machine {name!r}; expected one of {', '.join(names)}")
    index = names.index(name)
    machine = config.machines[index]
    if not machine.is_enrolled:
        line = config.line_of(("machines", index, "listens_to"))
        raise UsageError(
            f"{config.path} line {line}: {name} listens to {machine.listens_to}, which the bundle was trained on; "
            "expected `listens_to: enrolled` for a machine that is to be learned here; write that, and reload the "
            "daemon"
        )
    return machine


@contextmanager
def open_site(config: DeviceConfig, machine: MachineConfig) -> Iterator[Site]:
    """Open the model that serves on a CPU engine, after its self-test.

    Raises:
        BundleError: it cannot be trusted, or the self-test fails.
        UnavailableError: no engine of the CPU works here.
    """
    bundle = verified_bundle(config)
    precision = config.engine.precision
    prefer: list[str] = [name for name in config.engine.prefer if name in _CPU_ENGINES] or list(_CPU_ENGINES)
    with open_pipeline(bundle, prefer=prefer, precision=precision, threads=config.engine.threads) as pipeline:
        folder = EnrolmentFolder(config.state_dir, machine.name, encoder_of(bundle, pipeline.precision))
        yield Site(config=config, machine=machine, bundle=bundle, pipeline=pipeline, folder=folder)
