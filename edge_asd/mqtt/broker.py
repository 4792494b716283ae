"""Where the broker is and how to log in; out comes an MQTT client that is set up for it, and why it was not reached."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

Protocol: TypeAlias = Literal[5, "3.1.1"]

DEFAULT_PORT = 1883
DEFAULT_TLS_PORT = 8883

_UNSUPPORTED_PROTOCOL = 132
_VERSIONS: dict[Protocol, MQTTProtocolVersion] = {5: MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Whom to trust and who we are.

    ca_file: PEM of the authority that signed the broker's certificate; None trusts those of the system.
    cert_file, key_file: PEM of the client's certificate (and what leads to its authority) and of its key; both or none.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer, the broker's certificate and host name checked; reads the files as they are now.

        Raises:
            OSError: a file cannot be read or is not what it should be; the message names it.
        """
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self.ca_file)
        except OSError as error:
            raise OSError(f"{self.ca_file}: {_reason(error)}; expected certificates of authorities in PEM") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file is not None:
            try:
                # A pass phrase would be asked for on the terminal of a daemon that has none.
                context.load_cert_chain(self.cert_file, self.key_file, password=_no_pass_phrase)
            except (OSError, ValueError) as error:
                raise OSError(
                    f"{self.cert_file} with the key {self.key_file}: {_reason(error)}; expected a certificate and its "
                    "own key in PEM, the key without a pass phrase"
                ) from error
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """Where the broker is and how to log in; tls is None for a connection in the clear."""

    host: str
    port: int
    client_id: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    protocol: Protocol = 5
    tls: TlsFiles | None = None
    keepalive_s: int = 30
    connect_timeout_s: float = 10.0

    @property
    def endpoint(self) -> str:
        """The broker as messages name it."""
        return f"{self.host}:{self.port}"

    def client(self, *, reconnect: bool, session_s: int = 0) -> paho.Client:
        """A client that is set up but not connected.

        reconnect: whether it comes back by itself, where it runs a thread of its own.
        session_s: how long the broker keeps subscriptions and messages while the client is away; 0 forgets them.

        Raises:
            OSError: a file of `tls` cannot be used.
        """
        version = _VERSIONS[self.protocol]
        clean = None if self.protocol == 5 else session_s == 0  # MQTT 5 says it when it connects
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol=version,
            clean_session=clean,
            reconnect_on_failure=reconnect,
        )
        client.connect_timeout = self.connect_timeout_s
        client.username_pw_set(self.username, self.password)
        if self.tls is not None:
            client.tls_set_context(self.tls.context())
        return client

    def connect(self, client: paho.Client, *, session_s: int = 0) -> None:
        """Reaches the broker and sends the login, whose answer comes to `on_connect`.

        Raises:
            OSError: the broker cannot be reached, or its certificate is not trusted.
        """
        if self.protocol != 5 or session_s == 0:
            client.connect(self.host, self.port, keepalive=self.keepalive_s)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        properties.SessionExpiryInterval = session_s
        client.connect(self.host, self.port, keepalive=self.keepalive_s, clean_start=False, properties=properties)

    def why_unreachable(self, error: OSError) -> str:
        """What went wrong ahead of the login, and what to do."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted ({error.verify_message}); check that ca_file holds its authority, "
                "that it is valid today by this device's clock, and that it names this host"
            )
        if isinstance(error, ssl.SSLError):
            return (
                f"no TLS connection ({_reason(error)}); check that the broker speaks TLS on this port, and whether it "
                "asks for a client certificate"
            )
        if isinstance(error, TimeoutError):
            return (
                f"{error}; check host and port, and that a broker listens there that speaks MQTT {self.protocol}, "
                f"{'with' if self.tls else 'without'} TLS"
            )
        certificate = ", and whether it trusts this client's certificate, where it asks for one" if self.tls else ""
        return f"{error}; check host and port, and whether the broker runs{certificate}"

    def why_refused(self, reason: ReasonCode) -> str:
        """What the broker answered to the login, and what to do."""
        if reason.value == _UNSUPPORTED_PROTOCOL:
            return f"the broker does not speak MQTT {self.protocol}; set the other protocol in the configuration"
        return (
            f"login of user {self.username!r} as client {self.client_id!r} refused ({reason}); check username and "
            "password, or the client's certificate, and the broker's accounts"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or error)
    return str(error.strerror or error) if isinstance(error, OSError) else str(error)


def _no_pass_phrase() -> str:
    raise ValueError("the key asks for a pass phrase")
