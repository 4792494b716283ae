"""Random damage to bundles, by chance and by someone who knows the format: a BundleError, never another exception."""

from __future__ import annotations

import hashlib
import json
import zipfile
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_asd.bundle import Trust, open_bundle, sign_bundle
from edge_asd.bundle.archive import sealed_zip
from edge_asd.bundle.signature import public_key
from edge_asd.errors import BundleError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TRUST = Trust(public_keys=(public_key(KEY),))
CASES = 1_000
SEAL_BYTES = 71
NONSENSE = (
    *(None, True, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, 1e308, -1e308, 5e-324, float("inf"), float("nan"), 0.5),
    *("", "x", "x" * 100_000, "\ud800", "\0", "../..", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"),
    *([], {}, [[]] * 100, [1e308] * 4, {"": {}}, {"batch": 1}, ["batch"] * 20, {str(key): key for key in range(5_000)}),
)


@pytest.fixture
def bundle(make_bare_bundle, tmp_path):
    """A signed bundle."""
    path = tmp_path / "bare-1.0.0.asd"
    make_bare_bundle(path)
    return sign_bundle(path, KEY, path)


@pytest.fixture
def altered(tmp_path):
    """A file, `path`, that `put` gives other content; opened once, since opening to write is what takes time."""
    path = tmp_path / "altered.asd"
    with path.open("wb") as stream:

        def put(data: bytes) -> None:
            stream.seek(0)
            stream.write(data)
            stream.truncate()
            stream.flush()

        put.path = path
        yield put


def flipped(data: bytes, random: Random) -> bytes:
    """One to eight random bytes of it become others."""
    changed = bytearray(data)
    for position in random.sample(range(len(data)), random.choice((1, 1, 1, 2, 8))):
        changed[position] ^= random.randrange(1, 256)
    return bytes(changed)


def resealed(data: bytes) -> bytes:
    """With the seal that fits the bytes ahead of it."""
    body = data[:-SEAL_BYTES]
    return body + b"sha256:" + hashlib.sha256(body).hexdigest().encode()


def test_flipped_bytes_are_always_refused(bundle, altered):
    """A thousand cases, whoever is trusted: what a bad disk or copy does to a file never opens."""
    sound, random = bundle.path.read_bytes(), Random(1)
    path = altered.path
    for _ in range(CASES):
        altered(flipped(sound, random))
        with pytest.raises(BundleError, match=r"altered\.asd"):
            open_bundle(path)


def test_flipped_bytes_under_a_fitting_seal_are_refused_or_of_no_account(bundle, altered):
    """A thousand cases of someone who seals the archive again: what opens is signed, byte for byte."""
    sound, random = bundle.path.read_bytes(), Random(2)
    path = altered.path
    opened = 0
    for _ in range(CASES):
        altered(resealed(flipped(sound[:-SEAL_BYTES], random) + sound[-SEAL_BYTES:]))
        try:
            found = open_bundle(path, trust=TRUST)
        except BundleError:
            continue
        opened += 1
        assert found.manifest == bundle.manifest
        assert found.onnx_model("fp32") == bundle.onnx_model("fp32")
        assert found.model_card == bundle.model_card
        assert found.signer == public_key(KEY)
    assert opened < CASES // 10  # times and attributes of the zip's entries, which nothing reads


@pytest.mark.parametrize("name", ["golden.npz", "model.onnx", "manifest.json"])
def test_flipped_bytes_under_fitting_hashes_end_in_a_bundle_error_or_open(bundle, altered, name):
    """A thousand cases in all of someone whom the configuration lets in unsigned: parsers deep inside meet nonsense."""
    with zipfile.ZipFile(bundle.path) as archive:
        contents = {held: archive.read(held) for held in archive.namelist() if held != "signature"}
    random = Random(3)
    path = altered.path
    refused = 0
    for _ in range(CASES // 3 + 1):
        changed = flipped(contents[name], random)
        manifest = contents["manifest.json"]
        if name == "manifest.json":
            manifest = changed
        else:
            document = json.loads(manifest)
            document["files"][name] = {"sha256": hashlib.sha256(changed).hexdigest(), "size_bytes": len(changed)}
            manifest = json.dumps(document).encode()
        altered(sealed_zip({**contents, name: changed, "manifest.json": manifest}))
        try:
            open_bundle(path)
        except BundleError:
            refused += 1
    assert refused > 0


def test_any_value_of_the_manifest_may_be_nonsense(bundle, altered):
    """Numbers beyond all types, empty and deep things, half characters: a bundle error, or a manifest within bounds."""
    with zipfile.ZipFile(bundle.path) as archive:
        contents = {held: archive.read(held) for held in archive.namelist() if held != "signature"}
    random = Random(4)
    path = altered.path
    refused = 0
    for _ in range(CASES // 2):
        document = json.loads(contents["manifest.json"])
        *parents, last = random.choice(list(paths(document)))
        part = document
        for key in parents:
            part = part[key]
        part[last] = random.choice(NONSENSE)
        altered(sealed_zip({**contents, "manifest.json": json.dumps(document).encode()}))
        try:
            open_bundle(path)
        except BundleError:
            refused += 1
    assert refused > CASES // 4


def paths(part, ahead=()):
    """Where each key and item of a JSON document stands."""
    items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in items:
        yield (*ahead, key)
        yield from paths(value, (*ahead, key))
