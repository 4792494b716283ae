"""The broker's keys: where it is, whom to trust and how to log in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from edge_asd.config.part import Part
from edge_asd.config.values import CREDENTIALS, FAULT_OF_WHOLE, BrokerUrl, CredentialFile, ExistingFile, expected
from edge_asd.errors import ConfigError
from edge_asd.mqtt.broker import DEFAULT_PORT, DEFAULT_TLS_PORT, BrokerSettings, Protocol, TlsFiles

_A_FILE = expected("a path or null")
_FROM_SYSTEMD = f" Relative to this file, or `{CREDENTIALS}/NAME` for a credential of the systemd unit."


class MqttConfig(Part):
    """The broker that scores and alarms go to."""

    url: BrokerUrl = Field(
        default="mqtt://localhost:1883",
        description="The broker. mqtts:// is TLS: the broker's certificate and host name are checked. Without a port, "
        f"{DEFAULT_PORT} or, with TLS, {DEFAULT_TLS_PORT}.",
        json_schema_extra=expected(
            "mqtt://HOST:PORT or mqtts://HOST:PORT, with the login in username and password_file"
        ),
    )
    protocol: Protocol = Field(
        default=5,
        description="MQTT version. With 3.1.1 a broker has no way to say that its ACL refused a message: prefer 5 "
        "where the broker speaks it.",
    )
    ca_file: ExistingFile | None = Field(
        default=None,
        description="Authorities that may have signed the broker's certificate, in PEM; null trusts the system's. "
        "Relative to this file.",
        json_schema_extra=_A_FILE,
    )
    cert_file: CredentialFile | None = Field(
        default=None,
        description="This device's certificate, in PEM, where the broker asks for one." + _FROM_SYSTEMD,
        json_schema_extra=_A_FILE,
    )
    key_file: CredentialFile | None = Field(
        default=None,
        description="The certificate's private key, in PEM, without a pass phrase." + _FROM_SYSTEMD,
        json_schema_extra=_A_FILE,
    )
    username: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        default=None, description="Login name; null logs in without one, or with that of username_file."
    )
    username_file: CredentialFile | None = Field(
        default=None,
        description="File whose first line is the login name." + _FROM_SYSTEMD,
        json_schema_extra=_A_FILE,
    )
    password_file: CredentialFile | None = Field(
        default=None,
        description="File whose first line is the password; readable by the daemon's user alone." + _FROM_SYSTEMD,
        json_schema_extra=_A_FILE,
    )
    client_id: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None,
        description="MQTT client ID, which no other client of the broker may use; null is `edge-asd-SITE-DEVICE`.",
    )
    keepalive_s: int = Field(
        default=30,
        ge=5,
        le=3_600,
        description="The broker declares the device offline after 1.5 times this silence, in s.",
    )
    home_assistant: bool = Field(
        default=False,
        description="Whether the device announces itself to a Home Assistant on this broker, on "
        "homeassistant/device/ID/config.",
    )

    @model_validator(mode="after")
    def _keys_fit_together(self) -> MqttConfig:
        if self.password_file is not None and self.username is None and self.username_file is None:
            raise PydanticCustomError(
                FAULT_OF_WHOLE, "password_file is given without username; expected both; add username or username_file"
            )
        if self.username is not None and self.username_file is not None:
            raise PydanticCustomError(FAULT_OF_WHOLE, "username and username_file are given; expected one; remove one")
        if (self.cert_file is None) != (self.key_file is None):
            raise PydanticCustomError(
                FAULT_OF_WHOLE, "cert_file and key_file go together; expected both or none; add the other"
            )
        if not self.is_tls and (self.ca_file is not None or self.cert_file is not None):
            raise PydanticCustomError(
                FAULT_OF_WHOLE, "ca_file and cert_file are for TLS; expected mqtts://HOST in url; correct it"
            )
        return self

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.url.startswith("mqtts:")

    @property
    def host(self) -> str:
        """The broker's host."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The broker's port."""
        return urlsplit(self.url).port or (DEFAULT_TLS_PORT if self.is_tls else DEFAULT_PORT)

    def broker_settings(self, *, site: str, device: str, client_id: str | None = None) -> BrokerSettings:
        """Return what it takes to reach the broker and log in, with the secrets read from their files.

        client_id: another one than the device's, for a second client beside the daemon.

        Raises:
            ConfigError: a file cannot be read, or is not what it should be.
        """
        tls = None
        if self.is_tls:
            tls = TlsFiles(ca_file=self.ca_file, cert_file=self.cert_file, key_file=self.key_file)
            for path in (self.cert_file, self.key_file):
                _check_credential(path)
            try:
                tls.context()  # once now, so that a wrong file ends the start and is not tried for ever
            except OSError as error:
                raise ConfigError(f"{error}; check the files that mqtt names, their owner and mode") from error
        return BrokerSettings(
            host=self.host,
            port=self.port,
            client_id=client_id or self.client_id or f"edge-asd-{site}-{device}",
            username=self.username or _first_line(self.username_file, "login name"),
            password=_first_line(self.password_file, "password"),
            protocol=self.protocol,
            tls=tls,
            keepalive_s=self.keepalive_s,
        )


def _first_line(path: Path | None, what: str) -> str | None:
    """The first line of a secret's file; None without one."""
    if path is None:
        return None
    _check_credential(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"{path}: the broker's {what} cannot be read ({reason}); expected it in the first line; check the file's "
            "owner and mode"
        ) from error
    if not lines or not lines[0]:
        raise ConfigError(f"{path}: the first line is empty; expected the broker's {what} there; write it")
    return lines[0]


def _check_credential(path: Path | None) -> None:
    if path is not None and CREDENTIALS in path.parts:
        raise ConfigError(
            f"{path}: {CREDENTIALS} is not set; expected it from systemd; start the unit, with LoadCredential=, or "
            "set the variable to a folder that holds the file"
        )
