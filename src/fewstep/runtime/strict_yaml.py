"""YAML without its surprises: `no` is text, 1e-3 a number, 010 is ten, 12:30 text, and a key occurs once.

PyYAML reads YAML 1.1, where `category: no` is false and `learning_rate: 1e-3` is text. Booleans and numbers follow
YAML 1.2 here, and nothing is a date.
"""

import re
from typing import Any

import yaml

from fewstep.runtime.errors import RecipeError

MOST_NODES = 100_000  # of a text; a schedule or a list of cells is far below it
_CHANGED = {f"tag:yaml.org,2002:{name}" for name in ("bool", "float", "int", "timestamp")}
_PLAIN = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map")}
_BOOL = r"true|True|TRUE|false|False|FALSE"
_INT = r"[-+]?(0|[1-9][0-9]*)"
_FLOAT = (
    r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


class _Loader(yaml.SafeLoader):
    def __init__(self, stream: str):
        super().__init__(stream)
        self._sizes: dict[int, int] = {}  # by a node's id: how many nodes it stands for

    yaml_implicit_resolvers = {  # noqa: RUF012 - a class attribute of PyYAML
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _CHANGED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag not in _PLAIN:
            told = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise yaml.constructor.ConstructorError(None, None, f"the tag {told!r:.60} is not read", node.start_mark)
        return super().construct_object(node, deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.append(key)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        """Aliases of aliases double what they stand for at every line: forty lines are more than any machine holds. So
        what an alias stands for is counted as often as it is read."""
        node = super().compose_node(parent, index)
        if node is not None:
            self._sizes[id(node)] = size = 1 + sum(self._sizes.get(id(inner), 1) for inner in _inside(node))
            if size > MOST_NODES:
                raise yaml.composer.ComposerError(None, None, "aliases repeat too much", node.start_mark)
        return node


def _inside(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would read as something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - a class attribute of PyYAML
        first: list(resolvers) for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _tag, _pattern, _first in (
    ("bool", _BOOL, "tTfF"),
    ("int", _INT, "-+0123456789"),
    ("float", _FLOAT, "-+.0123456789"),
):
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first))


def load_yaml(text: str, where: str) -> Any:
    """The value of a YAML text.

    Raises:
        RecipeError: it is not YAML. The message names `where` and the line.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise RecipeError(f"{where}{line}: no YAML ({problem}); mend it there") from error
    except (ValueError, LookupError, ArithmeticError, RecursionError) as error:  # `!!bool maybe`, brackets without end
        raise RecipeError(f"{where}: no YAML ({error})") from error


def dump_yaml(value: Any) -> str:
    """A value as YAML: block style, keys in their order, short lists on one line."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    plain = all(not isinstance(item, dict | list) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=plain)


def _float(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:float", _float_text(value))


def _float_text(value: float) -> str:
    """A float with a decimal point, so that every YAML reader takes it for a number: 1.0e-05."""
    text = repr(value)
    return text if "." in text or "e" not in text else text.replace("e", ".0e")


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    """Line breaks of Unicode are escaped. Unescaped they would be read back as spaces."""
    style = '"' if any(mark in value for mark in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)
_Dumper.add_representer(float, _float)
