"""The shipped configurations, their JSON schema and the key reference, held against the code."""

import copy
import json
import re

import jsonschema
import pytest
import yaml

from edge_asd.config import DeviceConfig, load_config
from edge_asd.errors import ConfigError
from firmware_configs.generate import FOLDER, keys_text, schema_text

CONFIGS = sorted(FOLDER.glob("*.yaml"))
SCHEMA = json.loads((FOLDER / "device.schema.json").read_text())


def all_keys() -> set[str]:
    """Every key that a configuration may hold."""
    schema = DeviceConfig.model_json_schema()
    return {key for node in (schema, *schema["$defs"].values()) for key in node["properties"]}


def test_every_board_has_its_configuration():
    """A configuration ships for each board and for the demo."""
    boards = {"demo", "jetson-agx-orin", "jetson-orin-nano", "jetson-thor", "x86-openvino"}
    assert {path.stem for path in CONFIGS} == boards


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_is_good(path):
    """The daemon takes it, but for the files that it names, and so does the JSON schema."""
    assert load_config(path, files_must_exist=False).machines
    jsonschema.Draft202012Validator(SCHEMA).validate(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_shows_every_key(path):
    """Each key stands in it, in use or in a comment."""
    text = path.read_text()
    assert {key for key in all_keys() if not re.search(rf"^[ #-]*{key}:", text, re.MULTILINE)} == set()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_what_a_shipped_configuration_shows_in_comments_is_good(path, tmp_path):
    """The source that is commented out can take the place of the one in use."""
    lines = path.read_text().splitlines()
    start = lines.index("    # source:")
    shown = [line.replace("# ", "", 1) for line in lines[start:] if line.startswith("    # ")]
    alone = {"machines": [{"name": "m", "listens_to": "a/b", **yaml.safe_load("\n".join(shown))}]}
    config = {**yaml.safe_load(path.read_text()), **alone}
    (tmp_path / "device.yaml").write_text(yaml.safe_dump(config))
    used = yaml.safe_load(path.read_text())["machines"][0]["source"]
    source = load_config(tmp_path / "device.yaml", files_must_exist=False).machines[0].source
    assert set(type(source).model_fields) != set(used)


@pytest.mark.parametrize(("name", "text"), [("device.schema.json", schema_text), ("KEYS.md", keys_text)])
def test_what_is_generated_is_up_to_date(name, text):
    """The files in the folder are what `python -m firmware_configs.generate` writes."""
    assert (FOLDER / name).read_text(encoding="utf-8") == text()


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("schema",), 2),
        (("site",), "a/b"),
        (("site",), 7),
        (("colour",), "red"),
        (("machines",), []),
        (("machines", 0, "hop_samples"), 16_000),
        (("machines", 0, "hop_samples"), 161_280),
        (("machines", 0, "listens_to"), "bldc"),
        (("machines", 0, "source"), {"clips": ["a.flac"], "device": "USB"}),
        (("machines", 0, "source", "chanel"), 0),
        (("machines", 0, "alarm", "on_delay_s"), -1),
        (("engine", "precision"), "int4"),
        (("mqtt", "url"), "http://host"),
        (("spool", "max_bytes"), 1),
    ],
)
def test_code_and_schema_refuse_the_same(keys, value, tmp_path):
    """A fault that the daemon finds is one for an editor with the JSON schema too."""
    config = copy.deepcopy(yaml.safe_load((FOLDER / "jetson-orin-nano.yaml").read_text()))
    part = config
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    assert list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(config))
    (tmp_path / "device.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError):
        load_config(tmp_path / "device.yaml", files_must_exist=False)
