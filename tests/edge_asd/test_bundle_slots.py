"""Two models in slots: what serves is always whole, nothing unproven costs the model before, and damage is survived."""

from __future__ import annotations

import os
import signal
from datetime import datetime, timezone
from multiprocessing import get_context
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_asd.bundle import open_bundle
from edge_asd.bundle.slot_folder import SlotFolder
from edge_asd.bundle.slots import Record, Slot, number_of
from edge_asd.errors import BundleError, TemporaryError, UnavailableError, UsageError
from edge_asd.types import Comparison

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)


def slot(number: int, **changes) -> Slot:
    """A candidate of that install."""
    values = {
        "file": f"model-{number}.asd",
        "sha256": f"{number:064x}",
        "name": "bare",
        "version": f"{number}.0",
        "signer": None,
        "installed_utc": AT,
        "state": "shadow",
        "why": "installed",
        "changed_utc": AT,
    }
    return Slot(**{**values, **changes})


def describe(path) -> Slot:
    """As the device's own function, for bundles of any signer."""
    bundle = open_bundle(path)
    return slot(number_of(path.name), sha256=bundle.sha256, version=bundle.manifest.version)


@pytest.fixture
def folder(tmp_path) -> SlotFolder:
    """Slots in a folder that is not there yet."""
    return SlotFolder(tmp_path / "state" / "models", describe=describe, now=lambda: AT)


@pytest.fixture(scope="module")
def bundles(make_bare_bundle, tmp_path_factory) -> list[bytes]:
    """The bytes of four bundles."""
    path = tmp_path_factory.mktemp("bundles") / "bare.asd"
    return [make_bare_bundle(path, version=f"{n}.0.0") and path.read_bytes() for n in range(1, 5)]


def install(folder: SlotFolder, data: bytes) -> Record:
    """As the command does it, without its tests of the model."""
    with folder.staged(data) as path:
        return folder.change(lambda record: record.installed(describe(path)))


def check_whole(folder: SlotFolder) -> Record:
    """What the record names is there and sound."""
    record = folder.read()
    for one in record.slots.values():
        assert open_bundle(folder.path(one)).sha256 == one.sha256
    return record


class Life(RuleBasedStateMachine):
    """Any order of what may happen to a device's models."""

    def __init__(self):
        super().__init__()
        self.record = Record()
        self.runs = 0

    @rule()
    def install(self):
        fallback, serving = self.record.fallback, self.record.serving
        try:
            self.record = self.record.installed(slot(self.record.installs + 1))
        except TemporaryError:
            assert (serving.state, fallback.state) == ("trial", "good")

    @rule(passed=st.booleans(), stale=st.booleans())
    def end_shadow(self, passed, stale):
        candidate = self.record.candidate
        file = "model-999999.asd" if stale or candidate is None else candidate.file
        before = self.record
        self.record = (before.taken_over if passed else before.failed)(file, "why", AT)
        if candidate is None or file != candidate.file:
            assert self.record == before
        elif passed:
            assert self.record.serving.file == candidate.file
            assert self.record.fallback.file == before.serving.file
        else:
            assert self.record.serving == before.serving

    @rule()
    def prove(self):
        self.record = self.record.proven("why", AT)

    @rule()
    def fall_back(self):
        before = self.record
        try:
            self.record = before.fallen_back("why", AT)
        except UsageError:
            assert before.fallback is None
        else:
            assert self.record.serving.file == before.fallback.file
            assert self.record.standby.state == "failed"

    @rule(end=st.booleans(), same=st.booleans())
    def run(self, end, same):
        before = self.record
        self.runs += not same
        self.record = before.begun(f"run {self.runs}")
        for name, one in self.record.slots.items():
            earlier = before.slots[name]
            crashed = one.state in {"shadow", "trial"} and earlier.run not in {None, f"run {self.runs}"}
            assert one.unclean_ends == earlier.unclean_ends + crashed
        if end:
            self.record = self.record.ended()
            assert all(one.unclean_ends == 0 for one in self.record.slots.values())

    @rule(heard=st.floats(0, 1e6))
    @precondition(lambda self: self.record.candidate)
    def hear(self, heard):
        self.record = self.record.heard(self.record.candidate.file, {"m1": Comparison(heard_s=heard)})

    @invariant()
    def something_serves_from_the_first_install_on(self):
        """And it is not a model that failed or is in shadow; the record reads back as it is."""
        if self.record.installs:
            assert self.record.serving.state in {"trial", "good"}
        assert len(self.record.slots) <= 2
        assert Record.model_validate_json(self.record.model_dump_json()) == self.record


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=25)


def test_first_model_serves_at_once_and_the_next_waits_beside_it(folder, bundles):
    """The first has nothing to be compared with."""
    record = install(folder, bundles[0])
    assert (record.active, record.serving.state, record.candidate) == ("a", "trial", None)
    record = install(folder, bundles[1])
    assert (record.active, record.serving.version, record.candidate.version) == ("a", "1.0.0", "2.0.0")
    assert check_whole(folder) == record


def test_only_the_slots_stay_on_the_disk(folder, bundles):
    """However many models were installed: two, the record and a lock."""
    for data in bundles:
        install(folder, data)
    check_whole(folder)
    assert sorted(path.name for path in folder.folder.iterdir()) == [
        "install.lock",
        "model-1.asd",
        "model-4.asd",
        "slots.json",
    ]


def test_refused_model_leaves_everything_as_it_was(folder, bundles):
    """Also the candidate that it would have replaced."""
    install(folder, bundles[0])
    before = install(folder, bundles[1])
    with pytest.raises(BundleError, match="test"), folder.staged(bundles[2]):
        raise BundleError("a test failed")
    assert check_whole(folder) == before
    assert not (folder.folder / "model-3.asd").exists()


def test_model_on_trial_keeps_what_it_can_fall_back_to(folder, bundles):
    """A third model has to wait."""
    install(folder, bundles[0])
    record = install(folder, bundles[1])
    folder.change(lambda record: record.taken_over(record.candidate.file, "passed", AT))
    with pytest.raises(TemporaryError, match="on trial"):
        install(folder, bundles[2])
    record = folder.change(lambda record: record.fallen_back("it crashed", AT))
    assert record.serving.version == "1.0.0"
    assert (record.standby.state, record.standby.why) == ("failed", "it crashed")
    assert install(folder, bundles[2]).candidate.version == "3.0.0"
    check_whole(folder)


def test_two_installs_at_once_are_refused(folder, bundles):
    """The second is told to try again."""
    with folder.staged(bundles[0]), pytest.raises(TemporaryError, match="under way"), folder.staged(bundles[1]):
        pass


def test_folder_that_cannot_be_written_says_so(tmp_path):
    """As a file where a folder should be."""
    (tmp_path / "models").write_text("")
    folder = SlotFolder(tmp_path / "models", describe=describe)
    with pytest.raises(UnavailableError, match="cannot be used"):
        folder.change(Record.ended)


def _install_and_die(path, data: bytes, die_at: int) -> None:
    """In a process of its own: install, and be killed ahead of the call of the system with that number."""
    calls = 0

    def counted(function):
        def wrapper(*arguments, **keywords):
            nonlocal calls
            calls += 1
            if calls == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **keywords)

        return wrapper

    for name in ("open", "fsync", "fdopen", "rename", "replace", "unlink", "close", "chmod"):
        setattr(os, name, counted(getattr(os, name)))
    install(SlotFolder(path, describe=describe, now=lambda: AT), data)


def test_install_killed_at_any_point_leaves_the_old_model_or_the_new_one_whole(folder, bundles):
    """SIGKILL ahead of each call that touches the disk, until an install gets through."""
    install(folder, bundles[0])
    before = install(folder, bundles[1])
    for die_at in range(1, 100):
        process = get_context("fork").Process(target=_install_and_die, args=(folder.folder, bundles[2], die_at))
        process.start()
        process.join(60)
        record = check_whole(folder)
        assert record.serving == before.serving
        assert record.candidate.version in {"2.0.0", "3.0.0"}
        if process.exitcode == 0:
            break
    assert process.exitcode == 0
    assert die_at > 8
    assert record.candidate.version == "3.0.0"
    assert not list(folder.folder.glob(".model*"))  # a later install sweeps what killed ones left
    assert len(list(folder.folder.glob("model-*.asd"))) == 2


def test_damaged_record_is_made_again_and_the_older_model_serves(folder, bundles, caplog):
    """It is set aside and told; the newer model is not taken without a word."""
    install(folder, bundles[0])
    install(folder, bundles[1])
    (folder.folder / "slots.json").write_text("{}")
    record = check_whole(folder)
    assert record.serving.version == "1.0.0"
    assert (record.standby.version, record.standby.state) == ("2.0.0", "failed")
    assert "bare 1.0.0 serves" in caplog.text
    assert (folder.folder / "slots.json.damaged").read_text() == "{}"
    assert folder.read() == record
    assert install(folder, bundles[2]).candidate.version == "3.0.0"


@pytest.mark.parametrize("cases", [100, pytest.param(1_000, marks=pytest.mark.slow)])
def test_flipped_bytes_of_the_record_are_found_and_survived(folder, bundles, cases):
    """None opens as another record, none ends in an error, the serving model stays."""
    install(folder, bundles[0])
    before = install(folder, bundles[1])
    path = folder.folder / "slots.json"
    sound, random = path.read_bytes(), Random(5)
    quick = SlotFolder(folder.folder, describe=lambda path: slot(number_of(path.name)), now=lambda: AT)
    for _ in range(cases):
        altered = bytearray(sound)
        altered[random.randrange(len(sound))] ^= random.randrange(1, 256)
        path.write_bytes(altered)
        record = quick.read()
        assert record.serving.file == before.serving.file
        assert record.candidate is None


@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_model_and_record_together_leave_the_other_model(folder, bundles, damaged):
    """Whatever is whole serves."""
    install(folder, bundles[0])
    install(folder, bundles[1])
    (folder.folder / f"model-{damaged}.asd").write_bytes(b"")
    (folder.folder / "slots.json").write_bytes(b"")
    assert check_whole(folder).serving.version == f"{3 - damaged}.0.0"


def test_record_of_two_that_do_not_agree_is_refused():
    """Nobody writes one, and nobody reads one."""
    for changes in ({"slots": {"a": slot(1)}}, {"active": "b"}, {"active": "a", "slots": {"a": slot(1)}}):
        with pytest.raises(ValueError, match="active"):
            Record(**changes)
