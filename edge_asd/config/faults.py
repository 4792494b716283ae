"""What pydantic finds wrong with a configuration in, one sentence a fault out: found, where, expected, what to do."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

from pydantic_core import ErrorDetails

from edge_asd.config.device import DeviceConfig
from edge_asd.config.machine import ClipsSource, SoundCardSource
from edge_asd.config.values import FAULT, FAULT_OF_WHOLE
from edge_asd.config.yaml_lines import Document, Fault, KeyPath, key_text

JsonSchema: TypeAlias = dict[str, Any]

_TAGS = (SoundCardSource.__name__, ClipsSource.__name__)  # pydantic's names of a source's kinds, no keys of the file
_MAX_VALUE_CHARACTERS = 60


def faults_of(errors: Sequence[ErrorDetails], document: Document) -> list[Fault]:
    """Return one fault an error, each with the line where its key stands, or where it is missing."""
    schema = DeviceConfig.model_json_schema()
    faults = []
    for error in errors:
        if error["type"] == "too_short" and error["input"]:
            continue  # pydantic counts the good items alone; what is wrong with the others is told of each
        path = tuple(part for part in error["loc"] if part not in _TAGS)
        faults.append(Fault(line=document.line_of(path), text=_sentence(error, path, schema)))
    return faults


def _sentence(error: ErrorDetails, path: KeyPath, schema: JsonSchema) -> str:
    key = key_text(path) or "the file"
    kind = error["type"]
    if kind == "json_invalid":  # YAML can write half a surrogate pair, which is no text
        return f"{key} holds an escape that is no character, as \\ud800; expected text; remove it"
    if kind == "missing":
        return f"{key} is missing; expected {expectation(_at(schema, error['loc']), schema)}; add it"
    if kind == "extra_forbidden":
        return f"{key} is not a key; {_known_keys(str(path[-1]), _at(schema, error['loc'][:-1]))}"
    if kind == FAULT_OF_WHOLE:
        return f"{key}: {error['msg']}"
    found = f"{key} is {shown(error['input'])}"
    if kind == FAULT:
        return f"{found}; {error['msg']}"
    location = error["loc"][:-1] if error["loc"][-1:] and error["loc"][-1] in _TAGS else error["loc"]
    expected = expectation(_at(schema, location), schema)
    return f"{found}; expected {expected}; {_advice(kind, error['input'])}"


def expectation(node: JsonSchema, schema: JsonSchema) -> str:
    """Say in words what a part of the JSON schema allows."""
    node = resolve(node, schema)
    if "x-expected" in node:
        return str(node["x-expected"])
    if "anyOf" in node:
        return " or ".join(expectation(option, schema) for option in node["anyOf"])
    if "enum" in node:
        return f"one of {', '.join(map(str, node['enum']))}"
    return json.dumps(node["const"]) if "const" in node else _type_expectation(node, schema)


def _type_expectation(node: JsonSchema, schema: JsonSchema) -> str:
    kind = node["type"]
    if kind in {"integer", "number"}:
        return _number_expectation(node)
    if kind == "array":
        return f"a list of {expectation(node['items'], schema).removeprefix('one of ')}"
    if kind == "object":
        keys = list(node["properties"])
        return f"the key{'s' if len(keys) > 1 else ''} {', '.join(keys)}"
    text = f"text of at most {node['maxLength']} characters" if "maxLength" in node else "text"
    return {"string": text, "boolean": "true or false", "null": "null"}[kind]


def _number_expectation(node: JsonSchema) -> str:
    name = "a whole number" if node["type"] == "integer" else "a number"
    if "multipleOf" in node:
        name = f"a multiple of {node['multipleOf']}"
    low, above, high = (node.get(word) for word in ("minimum", "exclusiveMinimum", "maximum"))
    if low is not None and high is not None:
        return f"{name} from {low:g} to {high:g}" if high < 1e6 else f"{name} from {low} to {high}"
    bounds = [f"of {low:g} or more"] if low is not None else []
    bounds += [f"above {above:g}"] if above is not None else []
    bounds += [f"up to {high:g}"] if high is not None else []
    return " ".join([name, " and ".join(bounds)]).strip()


def resolve(node: JsonSchema, schema: JsonSchema) -> JsonSchema:
    """Follow a reference; what stands beside it has the last word."""
    if "$ref" not in node:
        return node
    return {**schema["$defs"][node["$ref"].rsplit("/", 1)[-1]], **node}


def _at(schema: JsonSchema, location: Sequence[str | int]) -> JsonSchema:
    """The part of the schema that describes a location of pydantic's."""
    node = schema
    for part in location:
        node = resolve(node, schema)
        if "anyOf" in node:
            node = next(resolve(option, schema) for option in node["anyOf"] if option.get("type") != "null")
        if part in _TAGS:
            node = schema["$defs"][part]
        elif isinstance(part, int):
            node = node["items"]
        else:
            node = node["properties"][part]
    return resolve(node, schema)


def _known_keys(key: str, node: JsonSchema) -> str:
    keys = list(node["properties"])
    close = difflib.get_close_matches(key, keys, n=1)
    if close:
        return f"did you mean {close[0]}? The keys here are {', '.join(keys)}"
    return f"expected one of {', '.join(keys)}; remove it"


def shown(value: object) -> str:
    """Show a value as it stands in the file, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    text = re.sub(r"//[^/@\s]*@", "//...@", text)  # a password in a URL stays out of the log
    return text if len(text) <= _MAX_VALUE_CHARACTERS else text[: _MAX_VALUE_CHARACTERS - 3] + "..."


def _advice(kind: str, value: object) -> str:
    if kind == "string_type" and isinstance(value, int | float):
        return "put it in quotes"
    if kind in {"int_type", "float_type"} and isinstance(value, str) and re.fullmatch(r"[-+.\d]+(e[-+]?\d+)?", value):
        return "write the number without quotes, and without an exponent"
    if kind in {"list_type", "tuple_type"} and isinstance(value, str):
        return "put it in [ ]"
    if value is None:
        return "give one, or remove the key where it has a default"
    return "correct it"
