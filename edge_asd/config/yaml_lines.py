"""YAML text in, its plain data and the line of every key out, or the lines of what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import yaml

KeyPath: TypeAlias = tuple[str | int, ...]

_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Fault:
    """One thing that is wrong, and the line where it stands, counted from 1."""

    line: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A parsed file: `data` as plain Python, `lines` by path of keys and indices, `faults` of the YAML itself."""

    data: object
    lines: dict[KeyPath, int]
    faults: tuple[Fault, ...]

    def line_of(self, path: KeyPath) -> int:
        """The line of that key, or of the nearest that holds it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def key_text(path: KeyPath) -> str:
    """A path as people write it: machines[0].hop_samples."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def parse_yaml(text: str) -> Document:
    """Parse one document. Anchors and aliases are refused, so that a file is no larger than it looks."""
    try:
        loader = _Loader(text)
        reader = _Reader(loader)
        node = loader.get_single_node()
        data = None if node is None else reader.read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        fault = Fault(line=1 if mark is None else mark.line + 1, text=_problem(error))
        return Document(data=None, lines={}, faults=(fault,))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        fault = Fault(
            line=line, text=f"character {error.character:#06x} cannot stand in YAML; expected text; remove it"
        )
        return Document(data=None, lines={}, faults=(fault,))
    return Document(data=data, lines=reader.lines, faults=tuple(reader.faults))


class _Loader(yaml.SafeLoader):
    """SafeLoader without aliases and without depth."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # untyped in types-PyYAML
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            problem = f"found the alias *{event.anchor}; expected the value itself; write it out"
            raise _RefusedError(None, None, problem, mark)
        if self._depth >= _MAX_DEPTH:
            problem = f"found more than {_MAX_DEPTH} levels of nesting; expected a device's configuration; rewrite it"
            raise _RefusedError(None, None, problem, mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _RefusedError(yaml.MarkedYAMLError):
    """Valid YAML that is not taken; its problem is a whole sentence."""


class _Reader:
    """Turns nodes into data; gathers lines and faults as it goes."""

    def __init__(self, loader: _Loader) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.faults: list[Fault] = []
        self._loader = loader

    def read(self, node: yaml.Node, path: KeyPath) -> object:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._read_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return self._loader.construct_object(node)
        except ValueError as error:  # what looks like a date or number, but is none
            text = f"{key_text(path)} is {node.value[:60]}, which YAML cannot read ({error}); put it in quotes"
            self.faults.append(Fault(line=node.start_mark.line + 1, text=text))
            return node.value

    def _read_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        mapping: dict[str, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                text = f"a key of {key_text(path) or 'the file'} is a list or mapping; expected a name; rewrite it"
                self.faults.append(Fault(line=line, text=text))
                continue
            key = key_node.value
            if key in mapping:
                text = (
                    f"{key_text((*path, key))} is given again, after line {self.lines[(*path, key)]}; expected each "
                    "key once; remove one"
                )
                self.faults.append(Fault(line=line, text=text))
                continue
            self.lines[(*path, key)] = line
            mapping[key] = self.read(value_node, (*path, key))
        return mapping


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or str(error)
    if isinstance(error, _RefusedError):
        return problem
    context = f"{error.context}: " if error.context else ""
    hint = "indent with spaces" if "\\t" in problem else "see the lines above it too: quotes, colons and indentation"
    return f"it is not valid YAML ({context}{problem}); {hint}"
