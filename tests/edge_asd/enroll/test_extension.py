"""The file of what was learned: read back as it was, or refused with the reason."""

from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_asd.bundle import Trust
from edge_asd.bundle.archive import Archive, sealed_zip
from edge_asd.bundle.extension import Extension, Facts, read_extension, write_extension
from edge_asd.bundle.signature import public_key
from edge_asd.enroll.learn import learn
from edge_asd.errors import BundleError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
TRUST = Trust(public_keys=(public_key(KEY),))


@pytest.fixture
def extension(make_memory, encoder):
    """Of 30 windows, calibrated."""
    memory = make_memory(30)
    learned = learn(memory, false_alarms_per_week=1.0, window_s=10.0, precision="int8")
    facts = Facts(
        machine="press",
        model="motors 1.0.0",
        encoder_sha256=encoder.sha256,
        precision=encoder.precision,
        layer=encoder.layer,
        feature_spec=encoder.feature_spec,
        engine="openvino-int8",
        changed_utc=datetime(2026, 1, 2, tzinfo=timezone.utc),
        n_vectors=0,
        vector_size=128,
        memory_sha256=None,
        calibration=learned.calibration,
    )
    return Extension(facts=facts, memory=memory)


def test_what_was_written_is_read_back(extension, encoder, tmp_path) -> None:
    """Vectors, times, groups and calibration."""
    path = tmp_path / "live.learned"
    write_extension(path, extension, KEY)
    found = read_extension(path, machine="press", encoder=encoder, trust=TRUST)
    assert found.facts.calibration == extension.facts.calibration
    for name in ("vectors", "group", "begin_utc_s", "end_utc_s"):
        np.testing.assert_array_equal(getattr(found.memory, name), getattr(extension.memory, name))


def test_any_altered_byte_is_refused(extension, encoder, tmp_path) -> None:
    """One in every 997th."""
    path = tmp_path / "live.learned"
    write_extension(path, extension, KEY)
    data = path.read_bytes()
    for at in range(0, len(data), 997):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(BundleError):
            read_extension(path, machine="press", encoder=encoder, trust=TRUST)


def test_memory_exchanged_under_a_new_seal_is_refused(extension, make_memory, encoder, tmp_path) -> None:
    """The signature holds its hash."""
    path, other = tmp_path / "live.learned", tmp_path / "other.learned"
    write_extension(path, extension, KEY)
    write_extension(other, replace(extension, memory=make_memory(30, seed=5)), KEY)
    archives = [Archive(each.read_bytes(), where="it") for each in (path, other)]
    contents = {name: archives[0].read(name, limit_bytes=10**6) for name in archives[0].names}
    contents["memory.npz"] = archives[1].read("memory.npz", limit_bytes=10**6)
    path.write_bytes(sealed_zip(contents))
    with pytest.raises(BundleError, match="which was signed"):
        read_extension(path, machine="press", encoder=encoder, trust=TRUST)


def test_foreign_file_is_refused(extension, encoder, tmp_path) -> None:
    """Signed by another device, of another machine, or of another encoder."""
    path = tmp_path / "live.learned"
    write_extension(path, extension, OTHER_KEY)
    with pytest.raises(BundleError, match="not by this device"):
        read_extension(path, machine="press", encoder=encoder, trust=TRUST)
    write_extension(path, extension, KEY)
    with pytest.raises(BundleError, match="is of machine 'press'"):
        read_extension(path, machine="pump", encoder=encoder, trust=TRUST)
    with pytest.raises(BundleError, match="made by another encoder"):
        read_extension(path, machine="press", encoder=replace(encoder, sha256="b" * 64), trust=TRUST)


def test_memory_with_nan_is_never_written(extension, tmp_path) -> None:
    """It cannot even be made."""
    vectors = extension.memory.vectors.copy()
    vectors[3, 5] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        write_extension(tmp_path / "x", replace(extension, memory=replace(extension.memory, vectors=vectors)), KEY)
