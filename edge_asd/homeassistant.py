"""A device and its machines in, its announcement to Home Assistant out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from edge_asd.messages import Topics
from edge_asd.types import MachineState

STATUS_TOPIC = "homeassistant/status"
"""Where Home Assistant says `online` when it has started and wants to hear announcements."""

ONLINE = b"online"

_Entity: TypeAlias = Mapping[str, object]


def discovery_topic(topics: Topics) -> str:
    """Where the device is announced; an empty retained message there takes it out of Home Assistant again."""
    return f"homeassistant/device/{_device_id(topics)}/config"


def discovery_payload(topics: Topics, machines: Sequence[str], *, version: str) -> bytes:
    """The announcement of a device with a score, a state, an alarm and a sensor fault for each machine.

    Source: Home Assistant's MQTT integration, device discovery (2024.11 and later).
    """
    device_id = _device_id(topics)
    components = {
        key: {**entity, "unique_id": f"{device_id}-{key}"}
        for machine in machines
        for key, entity in _entities(topics, machine).items()
    }
    payload = {
        "device": {
            "identifiers": [device_id],
            "name": topics.device,
            "model": "edge-asd",
            "sw_version": version,
            "suggested_area": topics.site,
        },
        "origin": {"name": "edge-asd", "sw_version": version},
        "availability_topic": topics.availability,
        # Home Assistant knows two words; `stopped` is the other one to it as well.
        "availability_template": "{{ 'online' if value == 'online' else 'offline' }}",
        "qos": 1,
        "components": components,
    }
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()


def _entities(topics: Topics, machine: str) -> dict[str, _Entity]:
    state_topic = topics.of(machine, "state")
    key = f"{_plain(machine)}-{_digest(machine)}"
    return {
        f"{key}-score": {
            "platform": "sensor",
            "name": f"{machine} score",
            "icon": "mdi:waveform",
            "state_topic": topics.of(machine, "score"),
            "value_template": "{{ value_json.score }}",
            "state_class": "measurement",
            "suggested_display_precision": 2,
        },
        f"{key}-state": {
            "platform": "sensor",
            "name": f"{machine} state",
            "device_class": "enum",
            "options": [state.value for state in MachineState],
            "state_topic": state_topic,
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": state_topic,
        },
        f"{key}-alarm": {
            "platform": "binary_sensor",
            "name": f"{machine} alarm",
            "device_class": "problem",
            "state_topic": state_topic,
            "value_template": "{{ 'OFF' if value_json.alarm_id is none else 'ON' }}",
        },
        f"{key}-sensor-fault": {
            "platform": "binary_sensor",
            "name": f"{machine} sensor fault",
            "device_class": "problem",
            "entity_category": "diagnostic",
            "state_topic": state_topic,
            "value_template": "{{ 'ON' if value_json.state == 'sensor_fault' else 'OFF' }}",
        },
    }


def _device_id(topics: Topics) -> str:
    return f"edge-asd-{_plain(topics.device)}-{_digest(f'{topics.site}/{topics.device}')}"


def _plain(name: str) -> str:
    """What Home Assistant takes for an identifier; names that differ may become the same."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:10]
