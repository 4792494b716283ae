"""`edge-asd bundle keygen`, `sign`, `verify`: a key and a bundle in, a signed bundle or its signer out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edge_asd.bundle import TRUST_ANYONE, PublicKey, Trust, open_bundle, sign_bundle
from edge_asd.bundle.signature import make_private_key, read_private_key
from edge_asd.config import load_config
from edge_asd.daemon.models import trust_from_config


def add_actions(actions: Any) -> None:
    """Add the three actions to `edge-asd bundle`."""
    keygen = actions.add_parser(
        "keygen",
        help="make a key that signs bundles; print its public half",
        description="Make a private key that signs bundles (Ed25519, PEM, mode 0600) and print its public half, the "
        "line for trust.public_keys of the devices. Keep the private key off the devices.",
    )
    keygen.add_argument("key", type=Path, metavar="KEY", help="file of the private key; must not exist yet")
    keygen.set_defaults(run=_keygen)

    sign = actions.add_parser(
        "sign",
        help="sign a bundle",
        description="Verify a bundle and write it again with a signature of its manifest, which holds the hash of "
        "every other file. A signature that it had is replaced.",
    )
    sign.add_argument("file", type=Path, metavar="FILE", help="the bundle, NAME-VERSION.asd")
    sign.add_argument("--key", type=Path, required=True, metavar="KEY", help="private key, from `bundle keygen`")
    sign.add_argument("--out", type=Path, metavar="FILE", help="where to write it (default: over the file)")
    sign.set_defaults(run=_sign)

    verify = actions.add_parser(
        "verify",
        help="verify seal, signature, schema, hashes, networks and golden values; print signer and SHA-256",
        description="Verify every byte of a bundle. With --config or --key it must also be signed by one who is "
        "trusted; without, it is only told who signed it.",
    )
    verify.add_argument("file", type=Path, metavar="FILE", help="the bundle, NAME-VERSION.asd")
    whom = verify.add_mutually_exclusive_group()
    whom.add_argument("--config", type=Path, metavar="DEVICE.yaml", help="whom that device trusts")
    whom.add_argument("--key", action="append", metavar="PUBLIC_KEY", help="ed25519:...; may be given several times")
    verify.set_defaults(run=_verify)


def _keygen(arguments: argparse.Namespace) -> int:
    print(make_private_key(arguments.key))
    return 0


def _sign(arguments: argparse.Namespace) -> int:
    out = arguments.out or arguments.file
    bundle = sign_bundle(arguments.file, read_private_key(arguments.key), out)
    manifest = bundle.manifest
    print(f"{out}: {manifest.name} {manifest.version}, signed by {bundle.signer}, sha256 {bundle.sha256}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    trust = TRUST_ANYONE
    if arguments.key:
        trust = Trust(public_keys=tuple(PublicKey.parse(text) for text in arguments.key))
    elif arguments.config:
        trust = trust_from_config(load_config(arguments.config, files_must_exist=False))
    bundle = open_bundle(arguments.file, trust=trust)
    manifest = bundle.manifest
    signed = "not signed" if bundle.signer is None else f"signed by {bundle.signer}"
    if bundle.signer is not None and trust is not TRUST_ANYONE:
        signed += ", who is trusted" if bundle.signer in trust.public_keys else ", who is not trusted but need not be"
    print(f"{arguments.file}: {manifest.name} {manifest.version} is sound, {signed}, sha256 {bundle.sha256}")
    return 0
