"""The configuration's model in, its JSON schema and key reference out.

`python -m firmware_configs.generate` writes device.schema.json and KEYS.md beside itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from edge_asd.config import (
    AlarmConfig,
    ClipsSource,
    DeviceConfig,
    EngineConfig,
    EvidenceConfig,
    LogConfig,
    MachineConfig,
    MetricsConfig,
    MqttConfig,
    SensorConfig,
    ShadowConfig,
    SoundCardSource,
    SpoolConfig,
    TrustConfig,
)
from edge_asd.config.faults import expectation, resolve

FOLDER = Path(__file__).resolve().parent
_SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The file", DeviceConfig),
    ("trust", TrustConfig),
    ("shadow", ShadowConfig),
    ("engine", EngineConfig),
    ("machines[]", MachineConfig),
    ("machines[].source, a sound card", SoundCardSource),
    ("machines[].source, recordings", ClipsSource),
    ("machines[].alarm", AlarmConfig),
    ("machines[].sensor", SensorConfig),
    ("mqtt", MqttConfig),
    ("spool", SpoolConfig),
    ("evidence", EvidenceConfig),
    ("log", LogConfig),
    ("metrics", MetricsConfig),
)


def schema_text() -> str:
    """Return the JSON schema of a configuration file, for editors and for checks without edge-asd."""
    schema = DeviceConfig.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(_without(schema, {"x-expected", "title"}), indent=2) + "\n"


def keys_text() -> str:
    """Return the key reference in Markdown: one table a section."""
    lines = [
        "# Keys of a device's configuration",
        "",
        "Made from the code by `python -m firmware_configs.generate`. Paths are relative to the configuration file.",
    ]
    schema = DeviceConfig.model_json_schema()
    for heading, model in _SECTIONS:
        lines += ["", f"## {heading}", "", (model.__doc__ or "").strip(), ""]
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        node = schema if model is DeviceConfig else schema["$defs"][model.__name__]
        for key, field in node["properties"].items():
            default = _default(field["default"]) if "default" in field else "must be given"
            cells = (f"`{key}`", expectation(field, schema), default, resolve(field, schema)["description"])
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    (FOLDER / "device.schema.json").write_text(schema_text(), encoding="utf-8")
    (FOLDER / "KEYS.md").write_text(keys_text(), encoding="utf-8")


def _default(value: Any) -> str:
    if isinstance(value, dict):
        return "its keys' defaults"
    return f"`{json.dumps(value)}`"


def _without(node: Any, keys: set[str]) -> Any:
    if isinstance(node, dict):
        return {name: _without(value, keys) for name, value in node.items() if name not in keys}
    return [_without(item, keys) for item in node] if isinstance(node, list) else node


if __name__ == "__main__":
    main()
