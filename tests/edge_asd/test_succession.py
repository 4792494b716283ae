"""A device's models over starts, installs, crashes and damage: something that was good always serves."""

from __future__ import annotations

import errno
import shutil
import uuid
from itertools import count

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_asd.bundle import sign_bundle
from edge_asd.bundle.signature import public_key
from edge_asd.bundle.slots import MAX_UNCLEAN_ENDS
from edge_asd.config import load_config
from edge_asd.counters import Counters
from edge_asd.daemon import opening
from edge_asd.daemon.models import fitting_bundle, slot_folder, slot_from_bundle
from edge_asd.daemon.stopped import Stopped
from edge_asd.daemon.succession import Succession
from edge_asd.errors import BundleError
from edge_asd.shadow import Judged
from edge_asd.types import Window

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
CONFIG = f"""\
schema: 1
site: hall
device: bench
trust: {{public_keys: ["{public_key(KEY)}"]}}
shadow: {{period_s: 2.0, max_extra_alarms: 0, max_drift: 3.0, trial_s: 1.0}}
state_dir: state
engine: {{prefer: [onnxruntime, openvino], precision: fp32}}
machines:
  - {{name: m1, listens_to: bldc/M1, source: {{clips: [none.flac]}}}}
  - {{name: m2, listens_to: bldc/M2, source: {{clips: [none.flac]}}}}
"""
QUARTERS = count(1)  # of a second: time goes on over all sounds
THRESHOLD = 80.0  # above any score of the hand network


@pytest.fixture
def config(tmp_path):
    """A device that runs installed models which KEY signed."""
    (tmp_path / "device.yaml").write_text(CONFIG)
    return load_config(tmp_path / "device.yaml", files_must_exist=False)


@pytest.fixture
def install(config, make_hand_bundle):
    """A function that installs the hand network as a version with a threshold."""

    def install(version: str, *, threshold: float = THRESHOLD, **changes):
        path = make_hand_bundle(version=version, threshold=threshold, **changes).path
        sign_bundle(path, KEY, path)
        slots = slot_folder(config)
        with slots.staged(path.read_bytes()) as staged:
            slot = slot_from_bundle(fitting_bundle(config, staged), staged)
            return slots.change(lambda record: record.installed(slot))

    return install


@pytest.fixture
def begin(config, monkeypatch):
    """A function that begins as a new process of the daemon would, at a time of the test's."""
    begun = []

    def begin(*, same_process: bool = False):
        if not same_process:
            monkeypatch.setattr(opening, "_RUN", str(uuid.uuid4()))
        clock = Clock()
        succession = Succession(config, counters=begin.counters, clock=clock)
        begun.append(succession)
        return succession, clock

    begin.counters = Counters(("m1", "m2"))
    yield begin
    for succession in begun:
        succession.close()


class Clock:
    """Seconds that pass when told to."""

    now_s = 100.0

    def __call__(self):
        return self.now_s


class Sound:
    """Windows of 0.25 s of noise for one machine, and what the serving model makes of them."""

    def __init__(self, succession, machine: str, class_name: str):
        self._ear = succession.serving.pipeline.ear(class_name)
        self._random = np.random.default_rng(5)
        self._succession = succession
        self._machine = machine

    def play(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.25)):
            wave = (0.1 * self._random.standard_normal(4_000)).astype(np.float32)
            end_s = 0.25 * next(QUARTERS)
            window = Window(
                wave=wave,
                end_monotonic_s=end_s,
                end_utc_s=end_s,
                fresh_samples=4_000,
                heard_samples=4_000,
                lost_samples=0,
            )
            threshold = self._succession.serving.manifest.threshold("bldc/M1").threshold
            judged = Judged(score=self._ear.score(window).score, threshold=threshold, alarm=False)
            self._succession.hear(self._machine, window, judged)


def play(succession, seconds: float) -> None:
    """Both machines hear so much sound."""
    for machine, class_name in (("m1", "bldc/M1"), ("m2", "bldc/M2")):
        Sound(succession, machine, class_name).play(seconds)


def version(succession) -> str:
    """Of the model that serves."""
    return succession.serving.manifest.version


def test_device_without_a_model_says_how_to_install_one(begin):
    """With the command."""
    with pytest.raises(BundleError, match=r"no model is installed; expected one.*edge-asd bundle install"):
        begin()


def test_new_model_takes_over_after_its_shadow_period_and_is_proven_by_serving(config, install, begin):
    """Not before each machine was heard for the period; until it is proven the old one can come back."""
    install("1.0.0")
    install("2.0.0")
    succession, _ = begin()
    play(succession, 1.5)
    assert not succession.is_over
    assert version(succession) == "1.0.0"
    play(succession, 0.5)
    assert succession.is_over
    record = slot_folder(config).read()
    assert (record.serving.version, record.serving.state, record.fallback.version) == ("2.0.0", "trial", "1.0.0")
    assert "normal sound of each machine" in record.serving.why
    assert begin.counters.totals()["models_taken_over"] == 1

    succession, clock = begin(same_process=True)
    assert version(succession) == "2.0.0"
    play(succession, 1.0)
    clock.now_s += 61
    assert not succession.is_over
    assert slot_folder(config).read().serving.state == "good"


def test_model_that_drifts_does_not_take_over(config, install, begin):
    """The reason stands in the record, and the old one serves on."""
    install("1.0.0")
    install("2.0.0", threshold=10 * THRESHOLD)
    succession, _ = begin()
    play(succession, 2.0)
    assert succession.is_over
    record = slot_folder(config).read()
    assert (record.serving.version, record.standby.state) == ("1.0.0", "failed")
    assert "times as far below its threshold" in record.standby.why
    assert begin.counters.totals()["models_refused"] == 1
    assert version(begin()[0]) == "1.0.0"


def test_model_that_alarms_on_sound_that_is_normal_does_not_take_over(config, install, begin):
    """Its alarms come from its own threshold and the machine's delays; nobody is told of them."""
    install("1.0.0")
    install("2.0.0", threshold=-THRESHOLD)
    succession, _ = begin()
    play(succession, 2.0)
    assert succession.is_over
    assert slot_folder(config).read().standby.state == "failed"


def test_exception_in_the_new_model_is_its_own_end_alone(config, install, begin, monkeypatch):
    """The window is scored by the serving model all the same."""
    install("1.0.0")
    install("2.0.0")
    succession, _ = begin()
    sound = Sound(succession, "m1", "bldc/M1")
    candidate = succession._candidate._machines["m1"]
    monkeypatch.setattr(candidate, "_ear", object())
    sound.play(0.25)
    assert succession.is_over
    assert "scoring failed" in slot_folder(config).read().standby.why


@pytest.mark.parametrize("how", [Succession.end, Succession.note], ids=["restart", "reload"])
def test_comparison_goes_on_after_a_restart_or_a_reload(config, install, begin, how):
    """What was heard before counts, whether the process has ended or another hearing is opened within it."""
    install("1.0.0")
    install("2.0.0")
    succession, _ = begin()
    play(succession, 1.5)
    how(succession)
    succession, _ = begin()
    assert not succession.is_over
    play(succession, 0.5)
    assert succession.is_over
    assert slot_folder(config).read().serving.version == "2.0.0"


def test_crashes_beside_a_new_model_end_its_shadow(config, install, begin):
    """Three processes in a row that did not end in order; one that did starts the count anew."""
    install("1.0.0")
    install("2.0.0")
    for _ in range(2):
        begin()
    begin()[0].end()
    for _ in range(3):
        begin()
        assert slot_folder(config).read().candidate is not None
    succession, _ = begin()
    record = slot_folder(config).read()
    assert (version(succession), record.standby.state) == ("1.0.0", "failed")
    assert "crashed 3 times" in record.standby.why


def test_crashes_on_trial_bring_the_old_model_back(config, install, begin):
    """By the start after the third."""
    install("1.0.0")
    install("2.0.0")
    slots = slot_folder(config)
    slots.change(lambda record: record.taken_over(record.candidate.file, "passed", slots.now()))
    for _ in range(3):
        assert version(begin()[0]) == "2.0.0"
    assert version(begin()[0]) == "1.0.0"
    assert "crashed 3 times in a row on its trial" in slots.read().standby.why


def test_first_model_of_a_device_goes_on_however_often_it_crashes(install, begin):
    """There is nothing else to serve."""
    install("1.0.0")
    for _ in range(6):
        assert version(begin()[0]) == "1.0.0"


def test_model_that_fails_its_self_test_after_the_start_gives_way(config, install, begin):
    """Here its golden values are not its own: installed without the command's test, as a driver might change later."""
    install("1.0.0")
    install("2.0.0", score=np.array([1e3, 1e3], np.float32))
    slots = slot_folder(config)
    slots.change(lambda record: record.taken_over(record.candidate.file, "passed", slots.now()))
    assert version(begin()[0]) == "1.0.0"
    assert "self-test" in slots.read().standby.why
    assert begin.counters.totals()["models_refused"] == 1


def test_new_model_that_fails_its_self_test_after_the_start_is_not_heard(config, install, begin):
    """The serving one is."""
    install("1.0.0")
    install("2.0.0", score=np.array([1e3, 1e3], np.float32))
    succession, _ = begin()
    play(succession, 3.0)
    assert not succession.is_over
    assert "self-test" in slot_folder(config).read().standby.why
    assert begin.counters.totals()["models_refused"] == 1


@pytest.mark.parametrize("damaged", ["serving", "standby", "both"])
def test_damaged_files_cost_the_model_that_they_hold_alone(config, install, begin, damaged):
    """While one of the two is whole and proven, the device hears."""
    install("1.0.0")
    install("2.0.0")
    slots = slot_folder(config)
    slots.change(lambda record: record.taken_over(record.candidate.file, "passed", slots.now()))
    record = slots.read()
    for slot in [record.serving] * (damaged != "standby") + [record.standby] * (damaged != "serving"):
        path = slots.path(slot)
        path.write_bytes(path.read_bytes()[:-1])
    if damaged == "both":
        with pytest.raises(BundleError, match="model-"):
            begin()
        return
    assert version(begin()[0]) == ("1.0.0" if damaged == "serving" else "2.0.0")


def test_exchanged_file_is_refused_though_its_signer_is_trusted(config, install, begin):
    """An older model with faults, signed long ago, cannot take the place of the one that was installed."""
    install("1.0.0")
    install("2.0.0")
    slots = slot_folder(config)
    record = slots.read()
    shutil.copy(slots.path(record.candidate), slots.path(record.serving))
    with pytest.raises(BundleError, match="that of the model that was installed"):
        begin()


def test_model_whose_signer_is_no_longer_trusted_does_not_serve(config, install):
    """Keys are held against the configuration at each start."""
    install("1.0.0")
    text = config.path.read_text().replace(str(public_key(KEY)), str(public_key(OTHER_KEY)))
    config.path.write_text(text)
    with pytest.raises(BundleError, match="which is not trusted"):
        Succession(load_config(config.path, files_must_exist=False), counters=Counters(("m1", "m2")))


def test_install_and_rollback_are_seen_while_the_daemon_runs(config, install, begin):
    """Within seconds, and told once a minute until it is heeded."""
    install("1.0.0")
    succession, clock = begin()
    assert not succession.is_over
    install("2.0.0")
    clock.now_s += 5.1
    assert succession.is_over
    assert not succession.is_over
    clock.now_s += 61
    assert succession.is_over
    succession, clock = begin(same_process=True)
    slots = slot_folder(config)
    slots.change(lambda record: record.failed(record.candidate.file, "by hand", slots.now()))
    clock.now_s += 5.1
    assert succession.is_over


def test_model_of_other_windows_is_not_heard_beside(config, install):
    """Both must score the same sound; the installing command says so ahead of it."""
    install("1.0.0")
    install("2.0.0")
    record = slot_folder(config).read()
    other = fitting_bundle(config, slot_folder(config).path(record.candidate))
    spec = other.manifest.feature_spec
    object.__setattr__(spec, "window_samples", spec.window_samples * 2)
    with pytest.raises(BundleError, match="expected 4000 at 16000 Hz"):
        opening.check_can_shadow(config, other)


@pytest.mark.parametrize("opened_before", [0, 1])
def test_stop_while_a_model_is_opened_is_not_held_against_it(config, install, begin, monkeypatch, opened_before):
    """Neither the one on trial nor the one in shadow is refused, or counted as crashed at the next starts."""
    install("1.0.0")
    install("2.0.0")
    whole, opened = opening.model_from_bundle, []

    def stopped(*arguments, check_stop):
        if len(opened) == opened_before:
            check_stop()
        opened.append(whole(*arguments))
        return opened[-1]

    def stop():
        raise Stopped

    monkeypatch.setattr(opening, "model_from_bundle", stopped)
    for _ in range(MAX_UNCLEAN_ENDS + 1):
        monkeypatch.setattr(opening, "_RUN", str(uuid.uuid4()))
        opened.clear()
        with pytest.raises(Stopped):
            Succession(config, counters=Counters(("m1", "m2")), check_stop=stop)
    record = slot_folder(config).read()
    assert [slot.state for slot in (record.serving, record.candidate)] == ["trial", "shadow"]
    assert [slot.unclean_ends for slot in (record.serving, record.candidate)] == [0, 0]
    monkeypatch.setattr(opening, "model_from_bundle", whole)
    succession, _ = begin()
    assert version(succession) == "1.0.0"
    record = slot_folder(config).read()
    assert [slot.unclean_ends for slot in (record.serving, record.candidate)] == [0, 0]


def test_named_file_serves_without_slots(config, make_hand_bundle, tmp_path):
    """Nothing is written, nothing is ever over."""
    path = make_hand_bundle(threshold=THRESHOLD).path
    sign_bundle(path, KEY, path)
    config.path.write_text(CONFIG + f"bundle: {path.name}\n")
    clock = Clock()
    succession = Succession(
        load_config(config.path, files_must_exist=False), counters=Counters(("m1", "m2")), clock=clock
    )
    play(succession, 3.0)
    clock.now_s += 100
    assert not succession.is_over
    succession.end()
    succession.close()
    assert not (tmp_path / "state").exists()


def test_full_disk_keeps_no_model_from_serving(config, install, begin, monkeypatch, caplog):
    """What becomes of the models is then not kept, and told; crashed, failed and passed ones all the same."""
    install("1.0.0")
    install("2.0.0", score=np.array([1e3, 1e3], np.float32))
    slots = slot_folder(config)
    slots.change(lambda record: record.taken_over(record.candidate.file, "passed", slots.now()))

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("edge_asd.bundle.slot_folder.write_durably", full)
    succession, clock = begin()
    assert version(succession) == "1.0.0"
    play(succession, 3.0)
    clock.now_s += 61
    assert not succession.is_over  # the record still names the model that failed; that is no reason to begin again
    succession.end()
    assert "No space left" in caplog.text


def test_unreadable_folder_stops_no_model_that_serves(config, install, begin, monkeypatch):
    """A disk that fails under a running daemon."""
    install("1.0.0")
    succession, clock = begin()

    def gone(*_arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(slot_folder(config).__class__, "_record_bytes", gone)
    clock.now_s += 61
    play(succession, 1.0)
    assert not succession.is_over
    succession.end()
