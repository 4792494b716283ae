"""The broker's keys: where it is and how to log in."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from edge_asd.config.part import Part
from edge_asd.config.values import FAULT_OF_WHOLE, BrokerUrl, ExistingFile, expected
from edge_asd.errors import ConfigError


class MqttConfig(Part):
    """The broker that scores and alarms go to."""

    url: BrokerUrl = Field(
        default="mqtt://localhost:1883",
        description="The broker; without a port, 1883.",
        json_schema_extra=expected("mqtt://HOST:PORT, with the login in username and password_file"),
    )
    username: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        default=None, description="Login name; null logs in without one."
    )
    password_file: ExistingFile | None = Field(
        default=None,
        description="File whose first line is the password; readable by the daemon's user alone. Relative to this "
        "file.",
        json_schema_extra=expected("a path or null"),
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

    @model_validator(mode="after")
    def _password_has_a_user(self) -> MqttConfig:
        if self.password_file is not None and self.username is None:
            raise PydanticCustomError(FAULT_OF_WHOLE, "password_file is given without username; expected both; add it")
        return self

    @property
    def host(self) -> str:
        """The broker's host."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The broker's port."""
        return urlsplit(self.url).port or 1883

    def read_password(self) -> str | None:
        """Return the first line of the password file, None without one.

        Raises:
            ConfigError: it cannot be read, or its first line is empty.
        """
        if self.password_file is None:
            return None
        try:
            lines = self.password_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(
                f"{self.password_file}: the broker's password cannot be read ({reason}); expected it in "
                "the first line; check the file's owner and mode"
            ) from error
        if not lines or not lines[0]:
            raise ConfigError(
                f"{self.password_file}: the first line is empty; expected the broker's password there; write it"
            )
        return lines[0]
