"""The options of commands that talk to a broker in; the broker, the site and the device that are meant out."""

from __future__ import annotations

import argparse
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edge_asd.config import load_config
from edge_asd.errors import UsageError
from edge_asd.messages import ROOT, check_topic_name
from edge_asd.mqtt.broker import DEFAULT_PORT, DEFAULT_TLS_PORT, BrokerSettings, TlsFiles

_DEFAULT_URL = "mqtt://localhost:1883"
_EXPECTED_URL = "mqtt://[USER[:PASSWORD]@]HOST[:PORT], or mqtts:// for TLS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which broker, and which devices of it; None stands for all sites or devices."""

    broker: BrokerSettings
    site: str | None
    device: str | None

    @property
    def topic_filter(self) -> str:
        """Everything that these devices say."""
        return f"{ROOT}/{self.site or '+'}/{self.device or '+'}/#"


def add_broker_options(parser: argparse.ArgumentParser) -> None:
    """Add --url, --config, --ca, --cert, --key, --site and --device."""
    parser.add_argument(
        "--url",
        metavar="URL",
        help=f"the broker, {_EXPECTED_URL}; without it that of --config, that of the environment variable MQTT_URL, or "
        f"{_DEFAULT_URL}",
    )
    parser.add_argument("--config", type=Path, metavar="DEVICE.yaml", help="this device, on its broker, with its login")
    parser.add_argument("--ca", type=Path, metavar="PEM", help="trust these authorities instead of the system's")
    parser.add_argument("--cert", type=Path, metavar="PEM", help="client certificate, where the broker asks for one")
    parser.add_argument("--key", type=Path, metavar="PEM", help="its private key")
    parser.add_argument("--site", help="only this site")
    parser.add_argument("--device", help="only devices of this name")


def wanted(arguments: argparse.Namespace, *, purpose: str) -> Wanted:
    """Return what is meant; what the command line says goes before the configuration.

    purpose: a part of the client ID, so that the broker's log tells who it is.

    Raises:
        UsageError: the URL, or the options together, cannot be.
        ConfigError: a name cannot be part of a topic, or the configuration is wrong.
    """
    for option in ("site", "device"):
        name = getattr(arguments, option)
        if name is not None:
            check_topic_name(name, where=f"--{option}")
    client_id = f"edge-asd-{purpose}-{uuid.uuid4().hex[:8]}"
    config = load_config(arguments.config) if arguments.config else None
    site = arguments.site or (config.site if config else None)
    device = arguments.device or (config.device if config else None)
    if config and not arguments.url:
        if arguments.ca or arguments.cert or arguments.key:
            raise UsageError("--ca, --cert and --key go with --url; with --config its own files are taken; give one")
        broker = config.mqtt.broker_settings(site=config.site, device=config.device, client_id=client_id)
    else:
        broker = _broker_of_url(arguments.url or os.environ.get("MQTT_URL") or _DEFAULT_URL, arguments, client_id)
    return Wanted(broker=broker, site=site, device=device)


def _broker_of_url(url: str, arguments: argparse.Namespace, client_id: str) -> BrokerSettings:
    parts = urlsplit(url)
    try:
        port = parts.port or (DEFAULT_TLS_PORT if parts.scheme == "mqtts" else DEFAULT_PORT)
    except ValueError:
        port = 0
    if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname or not port or parts.path not in {"", "/"}:
        # The URL itself is not repeated: it may hold a password.
        raise UsageError(f"the broker's URL cannot be used; expected {_EXPECTED_URL}")
    if parts.scheme == "mqtt" and (arguments.ca or arguments.cert or arguments.key):
        raise UsageError("--ca, --cert and --key are for TLS; expected a URL that begins with mqtts://")
    if (arguments.cert is None) != (arguments.key is None):
        raise UsageError("--cert and --key go together; expected both or none; add the other")
    tls = TlsFiles(ca_file=arguments.ca, cert_file=arguments.cert, key_file=arguments.key)
    return BrokerSettings(
        host=parts.hostname,
        port=port,
        client_id=client_id,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        protocol="3.1.1",  # every broker speaks it, and a subscriber needs nothing more
        tls=tls if parts.scheme == "mqtts" else None,
    )
