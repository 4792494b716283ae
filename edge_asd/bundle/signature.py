"""Who vouches for a bundle: keys and the bytes of a manifest in, signatures and verdicts on them out."""

from __future__ import annotations

import base64
import binascii
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_asd.errors import BundleError, UnavailableError, UsageError

KEY_PREFIX = "ed25519:"
MAX_SIGNATURE_BYTES = 1_024
MAX_KEY_FILE_BYTES = 16 * 1024

_KEY_BYTES = 32
_OTHERS = stat.S_IRWXG | stat.S_IRWXO

# Points of small order: whoever likes can make signatures that fit such a key.
# Source: libsodium, ge25519_has_small_order; the sign bit is left out.
_SMALL_ORDER = frozenset(
    bytes.fromhex(digits)
    for digits in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key; as text `ed25519:` and the base64 of its 32 bytes, as configurations name it."""

    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """The key that a text names.

        Raises:
            UsageError: it names none, or one that would take anybody's signature.
        """
        try:
            raw = base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        key = cls(raw)
        if len(raw) != _KEY_BYTES or str(key) != text:
            raise UsageError(
                f"public key {text!r} is none; expected {KEY_PREFIX} and the base64 of 32 bytes, as "
                "`edge-asd bundle keygen` prints it; copy it whole"
            )
        if raw[:-1] + bytes([raw[-1] & 0x7F]) in _SMALL_ORDER:
            raise UsageError(
                f"public key {text!r} is a point of small order, which anybody's signature fits; expected a key that "
                "`edge-asd bundle keygen` printed; replace it"
            )
        return key

    def __str__(self) -> str:
        return KEY_PREFIX + base64.b64encode(self.raw).decode("ascii")


class Signature(BaseModel):
    """The bundle's member `signature`: JSON, of the bytes of manifest.json, which hold the hash of every other file.

    public_key: which key made it. It proves nothing by itself: trust is the reader's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    algorithm: Literal["ed25519"]
    public_key: str = Field(max_length=64)
    signature: str = Field(max_length=128)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Whose bundles are taken.

    public_keys: of those who may sign. require_signature: whether a bundle that none of them signed is refused.
    """

    public_keys: tuple[PublicKey, ...] = ()
    require_signature: bool = True

    def check(self, signer: PublicKey | None, *, where: str) -> None:
        """Hold the signer of a bundle, None where nobody signed it, against this.

        Raises:
            BundleError: it is not to be trusted.
        """
        if not self.require_signature or signer in self.public_keys:
            return
        found = "is not signed" if signer is None else f"is signed by {signer}, which is not trusted"
        if not self.public_keys:
            raise BundleError(
                f"{where}: {found}, and the configuration trusts no key; expected trust.public_keys to name those "
                "whose models may run here; add the key that `edge-asd bundle keygen` printed to whoever signs, or set "
                "trust.require_signature to false to run the models of anyone"
            )
        raise BundleError(
            f"{where}: {found}; expected the signature of {' or '.join(map(str, self.public_keys))}; get a bundle that "
            "is signed so, sign it (edge-asd bundle sign) if you trust its source, or add its key to trust.public_keys"
        )


TRUST_ANYONE = Trust(require_signature=False)


def sign(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """The content of the member `signature` for these bytes of manifest.json; the same for the same key."""
    made = Signature(
        algorithm="ed25519",
        public_key=str(public_key(key)),
        signature=base64.b64encode(key.sign(manifest)).decode("ascii"),
    )
    return (made.model_dump_json() + "\n").encode("ascii")


def verified_signer(manifest: bytes, signature: bytes, *, where: str) -> PublicKey:
    """The key that made a signature of these bytes of manifest.json.

    Raises:
        BundleError: the signature is malformed, or not of these bytes by that key.
    """
    try:
        found = Signature.model_validate_json(signature)
        signer = PublicKey.parse(found.public_key)
        made = base64.b64decode(found.signature, validate=True)
        if base64.b64encode(made).decode("ascii") != found.signature:
            raise BundleError(f"{where}: the signature has stray bits behind its base64; sign the bundle again")
    except (ValidationError, UsageError, binascii.Error, ValueError) as error:
        raise BundleError(
            f"{where}: the signature cannot be read ({error}); expected JSON of algorithm, public_key and signature; "
            "sign the bundle again"
        ) from error
    try:
        Ed25519PublicKey.from_public_bytes(signer.raw).verify(made, manifest)
    except (InvalidSignature, ValueError) as error:
        raise BundleError(
            f"{where}: the signature by {signer} is not of this manifest; expected one of exactly its bytes; the "
            "bundle was altered after it was signed: get it again from its source"
        ) from error
    return signer


def public_key(key: Ed25519PrivateKey) -> PublicKey:
    """The public half."""
    return PublicKey(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def make_private_key(path: Path) -> PublicKey:
    """Write a new private key (PEM, PKCS #8, unencrypted) that its owner alone may read; return its public half.

    The file is there whole or not at all, and one that is there stays.

    Raises:
        UsageError: there is a file already, or the folder is none of this user's.
        UnavailableError: the disk refused it.
    """
    key = Ed25519PrivateKey.generate()
    try:
        write_private_key(path, key)
    except (FileExistsError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise UsageError(
            f"private key {path}: cannot be made ({error.strerror}); expected a new file in a folder of yours; "
            "choose another path"
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"private key {path}: cannot be made ({error.strerror}); expected a disk that takes it; make room where it "
            "is full, or choose another path"
        ) from error
    return public_key(key)


def write_private_key(path: Path, key: Ed25519PrivateKey) -> None:
    """Write a key that its owner alone may read, whole or not at all, whenever the power fails.

    Raises:
        FileExistsError: there is a file already.
        OSError: the disk or the folder's rights refuse it.
    """
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(pem)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temporary, path)  # unlike a rename, over no other key
    finally:
        Path(temporary).unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a PEM file.

    Raises:
        UsageError: it cannot be read, others may read it too, or it holds no unencrypted Ed25519 key.
    """
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            pem = stream.read(MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise UsageError(
            f"private key {path}: cannot be read ({error.strerror}); expected what `edge-asd bundle keygen` wrote; "
            "check the path"
        ) from error
    if mode & _OTHERS:
        raise UsageError(
            f"private key {path}: others may read it (mode {stat.S_IMODE(mode):04o}); expected mode 0600; "
            f"chmod 600 {path}, and make a new key if someone may have read it"
        )
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(
            f"private key {path}: cannot be read ({error}); expected the unencrypted PEM file that "
            "`edge-asd bundle keygen` wrote; check the path"
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(
            f"private key {path}: is a {type(key).__name__}; expected an Ed25519 key; make one: edge-asd bundle keygen"
        )
    return key
