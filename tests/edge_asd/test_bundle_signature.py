"""A signature says who vouches for every byte of a bundle; nobody else's bundle is taken where one is required."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import shutil
import stat
import subprocess
import zipfile

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.bundle import Trust, open_bundle, sign_bundle
from edge_asd.bundle.archive import sealed_zip
from edge_asd.bundle.signature import (
    PublicKey,
    make_private_key,
    public_key,
    read_private_key,
    sign,
    verified_signer,
)
from edge_asd.errors import BundleError, UnavailableError, UsageError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
TRUSTED = Trust(public_keys=(public_key(OTHER_KEY), public_key(KEY)))


@pytest.fixture
def unsigned(make_bare_bundle, tmp_path):
    """Path of a bundle that nobody signed."""
    return make_bare_bundle(tmp_path / "bare-1.0.0.asd").path


@pytest.fixture
def signed(unsigned):
    """Path of a bundle that KEY signed."""
    sign_bundle(unsigned, KEY, unsigned)
    return unsigned


def _contents(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_signed_bundle_is_taken_where_its_key_is_trusted(signed):
    """Among several keys, and the bundle says whose signature it bears."""
    assert open_bundle(signed, trust=TRUSTED).signer == public_key(KEY)


def test_bundle_of_another_key_is_refused(signed):
    """The message names the key found and those expected."""
    trust = Trust(public_keys=(public_key(OTHER_KEY),))
    with pytest.raises(BundleError, match="which is not trusted") as caught:
        open_bundle(signed, trust=trust)
    assert str(public_key(KEY)) in str(caught.value)
    assert str(public_key(OTHER_KEY)) in str(caught.value)


@pytest.mark.parametrize("keys", [(), (public_key(KEY),)])
def test_unsigned_bundle_is_refused_by_default(unsigned, keys):
    """Whether keys are trusted or none; the message says what to do."""
    with pytest.raises(BundleError, match=r"is not signed.*expected"):
        open_bundle(unsigned, trust=Trust(public_keys=keys))


def test_anyones_bundle_is_taken_where_no_signature_is_required(unsigned):
    """Unsigned, and signed by a stranger."""
    trust = Trust(public_keys=(public_key(OTHER_KEY),), require_signature=False)
    assert open_bundle(unsigned, trust=trust).signer is None
    sign_bundle(unsigned, KEY, unsigned)
    assert open_bundle(unsigned, trust=trust).signer == public_key(KEY)


def test_signing_changes_nothing_else(make_bare_bundle, tmp_path):
    """Manifest, networks, golden values and card stay; the same key gives the same bytes; another key takes over."""
    path, out, again = (tmp_path / name for name in ("bare-1.0.0.asd", "signed.asd", "again.asd"))
    before = make_bare_bundle(path)
    sign_bundle(path, KEY, out)
    assert {name: content for name, content in _contents(out).items() if name != "signature"} == _contents(path)
    assert open_bundle(out).manifest == before.manifest
    sign_bundle(path, OTHER_KEY, again)
    assert open_bundle(again).signer == public_key(OTHER_KEY)
    sign_bundle(again, KEY, again)
    assert again.read_bytes() == out.read_bytes()


def test_damaged_bundle_is_not_signed(unsigned, tmp_path):
    """Nobody vouches for what does not verify, and nothing is written."""
    altered = bytearray(unsigned.read_bytes())
    altered[100] ^= 1
    unsigned.write_bytes(altered)
    with pytest.raises(BundleError):
        sign_bundle(unsigned, KEY, tmp_path / "signed.asd")
    assert [unsigned] == list(tmp_path.iterdir())


@pytest.mark.parametrize("trust", [TRUSTED, Trust(require_signature=False)])
@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "model.int8.onnx", "golden.npz", "MODEL_CARD.md"])
def test_any_file_altered_after_signing_is_found(signed, name, trust):
    """Someone who knows the format seals the archive again; whoever is trusted, the signature no longer fits."""
    contents = _contents(signed)
    if name != "manifest.json":
        contents[name] += b"\n"
    manifest = json.loads(contents["manifest.json"])
    manifest["name"] = "other"
    contents["manifest.json"] = json.dumps(manifest).encode()
    signed.write_bytes(sealed_zip(contents))
    with pytest.raises(BundleError, match=r"not of this manifest.*altered after it was signed"):
        open_bundle(signed, trust=trust)


def test_signature_of_another_bundle_does_not_fit(signed, make_bare_bundle, tmp_path):
    """A signature cannot be moved."""
    other = make_bare_bundle(tmp_path / "other.asd", version="2.0.0").path
    moved = {**_contents(other), "signature": _contents(signed)["signature"]}
    other.write_bytes(sealed_zip(moved))
    with pytest.raises(BundleError, match="not of this manifest"):
        open_bundle(other, trust=TRUSTED)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"\xff",
        b"[" * 900,
        b'{"algorithm":"ed25519","public_key":"ed25519:AAAA","signature":"AAAA"}',
        json.dumps({"algorithm": "none", "public_key": str(public_key(KEY)), "signature": "AAAA"}).encode(),
        json.dumps({"algorithm": "ed25519", "public_key": str(public_key(KEY)), "signature": "AAAA"}).encode(),
        json.dumps({"algorithm": "ed25519", "public_key": str(public_key(KEY)), "signature": "é"}).encode(),
        bytes(2_000),
    ],
)
def test_signature_that_is_none_is_refused(signed, content):
    """Malformed, of another algorithm, of another length, too long: an error of ours, never another."""
    signed.write_bytes(sealed_zip({**_contents(signed), "signature": content}))
    with pytest.raises(BundleError, match="signature"):
        open_bundle(signed, trust=Trust(require_signature=False))


@given(manifest=st.binary(max_size=200), position=st.integers(0), flip=st.integers(1, 255))
def test_any_altered_byte_of_a_signature_or_manifest_is_found(manifest, position, flip):
    """Also without the archive's seal around them."""
    signature = sign(manifest, KEY)
    both = bytearray(manifest + signature)
    both[position % len(both)] ^= flip
    altered_manifest, altered_signature = bytes(both[: len(manifest)]), bytes(both[len(manifest) :])
    assert verified_signer(manifest, signature, where="x") == public_key(KEY)
    try:
        signer = verified_signer(altered_manifest, altered_signature, where="x")
    except BundleError:
        return
    # White space of the JSON is not signed, and need not be.
    assert altered_manifest == manifest
    assert (signer, json.loads(altered_signature)) == (public_key(KEY), json.loads(signature))


def test_signature_is_what_openssl_makes_of_the_manifest(signed, tmp_path):
    """Any program that knows Ed25519 can check who signed; nothing of the format is our own invention."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    contents = _contents(signed)
    (tmp_path / "manifest.json").write_bytes(contents["manifest.json"])
    (tmp_path / "raw").write_bytes(base64.b64decode(json.loads(contents["signature"])["signature"]))
    prefix = bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo of Ed25519, RFC 8410
    (tmp_path / "public.der").write_bytes(prefix + public_key(KEY).raw)
    command = "openssl pkeyutl -verify -pubin -inkey public.der -keyform DER -rawin -in manifest.json -sigfile raw"
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Verified Successfully" in done.stdout, done.stderr


def test_new_private_key_is_its_owners_alone(tmp_path):
    """Mode 0600 from the first moment, readable again, and never written over another."""
    path = tmp_path / "models.key"
    made = make_private_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert public_key(read_private_key(path)) == made
    with pytest.raises(UsageError, match="cannot be made"):
        make_private_key(path)
    assert public_key(read_private_key(path)) == made


def test_disk_that_is_full_leaves_no_private_key(tmp_path, monkeypatch):
    """Nor an empty file in its name, which no later one would replace; room is what is asked for."""

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "models.key"
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UnavailableError, match="make room"):
            make_private_key(path)
    assert not list(tmp_path.iterdir())
    made = make_private_key(path)
    assert public_key(read_private_key(path)) == made


def test_private_key_that_others_may_read_is_refused(tmp_path):
    """As ssh does; the message says how to mend it."""
    path = tmp_path / "models.key"
    make_private_key(path)
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        read_private_key(path)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(100_000)])
def test_file_that_is_no_private_key_is_refused(tmp_path, content):
    """Whatever it holds."""
    path = tmp_path / "models.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="cannot be read"):
        read_private_key(path)


def test_key_of_another_kind_is_refused(tmp_path):
    """A private key, but none that signs bundles."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = tmp_path / "models.key"
    pem = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="expected an Ed25519 key"):
        read_private_key(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ed25519:",
        "ed25519:AAAA",
        "rsa:" + "A" * 43 + "=",
        str(public_key(KEY))[:-1],
        str(public_key(KEY)) + "\n",
        str(public_key(KEY)).replace("ed25519:", ""),
        "ed25519:" + "é" * 44,
    ],
)
def test_text_that_names_no_public_key_is_refused(text):
    """Cut off, of another kind, or nothing at all."""
    with pytest.raises(UsageError, match="expected"):
        PublicKey.parse(text)


def test_public_key_reads_back():
    """The text in a configuration is the key."""
    assert PublicKey.parse(str(public_key(KEY))) == public_key(KEY)


def test_key_that_anybodys_signature_fits_is_refused():
    """All zeros and other points of small order: a placeholder that was never replaced must not open the door."""
    forged = base64.b64encode((b"\x01" + bytes(31)) + bytes(32)).decode()  # R is the neutral element, S is 0
    for key in (PublicKey(b"\x01" + bytes(31)), PublicKey(bytes(32)), PublicKey(b"\x01" + bytes(30) + b"\x80")):
        with pytest.raises(UsageError, match="small order"):
            PublicKey.parse(str(key))
        content = {"algorithm": "ed25519", "public_key": str(key), "signature": forged}
        with pytest.raises(BundleError):
            verified_signer(b"anything", json.dumps(content).encode(), where="x")


def test_second_signature_is_refused(signed):
    """A name stands in an archive once."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in _contents(signed).items():
            archive.writestr(zipfile.ZipInfo(name), content)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(zipfile.ZipInfo("signature"), b"{}")
    from edge_asd.bundle.archive import Archive, _seal

    comment = b"sha256:" + bytes(64)
    body = bytearray(buffer.getvalue())
    body[-2:] = len(comment).to_bytes(2, "little")
    data = bytes(body) + _seal(bytes(body))
    with pytest.raises(BundleError, match="a name twice"):
        Archive(data, where="x")
