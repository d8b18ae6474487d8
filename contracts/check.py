"""Keeps published schemas compatible: `python -m contracts.check` in CI, `--write` after a change."""

import json
import sys
from pathlib import Path
from typing import Any

import jsonref
from jsonsubschema import isSubschema

from . import EVENTS, Event

SCHEMAS = Path(__file__).parent / "schemas"

# Words that constrain nothing for a reader, or that the subschema checker does not know.
_NOT_CONSTRAINTS = frozenset({
    "title", "description", "default", "examples", "$schema", "$id", "$defs", "format", "pattern",
})  # fmt: skip
_ACTED_ON = frozenset({"format", "strategy"})
"""Members that a reader acts on: one of before must refuse a new value. Consumers are upgraded first, and what one
refused is replayed."""
_WRITE = "run `python -m contracts.check --write`"


def path_of(event: type[Event]) -> Path:
    return SCHEMAS / f"{event.type()}.v{event.major}.json"


def rendered(event: type[Event]) -> str:
    return json.dumps(event.json_schema(), indent=2) + "\n"


def problem(event: type[Event]) -> str | None:
    """What is wrong between the published schema and the code, or None."""
    path = path_of(event)
    if not path.exists():
        return f"{event.type()} version {event.major} is not published: {_WRITE}"
    if path.read_text() == rendered(event):
        return None
    published = json.loads(path.read_text())
    if more := grown(published, event.json_schema()):
        said = "; ".join(f"{member}: {', '.join(sorted(values))}" for member, values in sorted(more.items()))
        return (
            f"{event.type()} says what a reader of before refuses ({said}): make the member text, say it in a new "
            f"optional one, or set `major = {event.major + 1}`"
        )
    if compatible(published, event.json_schema()):
        return f"{event.type()} changed compatibly: {_WRITE}"
    return (
        f"{event.type()} changed so that a reader of version {event.major} would refuse what was already said: "
        f"give new fields a default, keep old ones, or set `major = {event.major + 1}`"
    )


def compatible(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether everything that was valid stays valid: nothing removed, narrowed or newly required."""
    return bool(isSubschema(_plain(old), _plain(new)))


def grown(old: dict[str, Any], new: dict[str, Any]) -> dict[str, set[str]]:
    """By member, values that came to an enumeration: a reader who knows the old one refuses them. None where the member
    became text, which tells a reader that there may be more."""
    before, now = _values(_plain(old)), _values(_plain(new))
    found = {at: now[at] - before[at] for at in before.keys() & now.keys() if None not in before[at] | now[at]}
    told = {at: more for at, more in found.items() if more and at.rpartition(".")[2] not in _ACTED_ON}
    return {at: {str(value) for value in more} for at, more in told.items()}


def _values(node: Any, at: str = "") -> dict[str, set[Any]]:
    """By member, what a text in it may be; None among them: any."""
    found: dict[str, set[Any]] = {}
    if not isinstance(node, dict):
        return found
    if node.get("type") == "string" or "enum" in node or "const" in node:
        found[at] = {*node.get("enum", [node.get("const")])}
    inside = [(f"{at}.{name}".lstrip("."), child) for name, child in node.get("properties", {}).items()]
    inside += [(at, child) for word in ("anyOf", "oneOf", "allOf") for child in node.get(word, [])]
    inside += [(f"{at}[]", child) for child in node.get("prefixItems", [])]
    inside += [(f"{at}[]", node[word]) for word in ("items", "additionalProperties") if word in node]
    for place, child in inside:
        for member, values in _values(child, place).items():
            found.setdefault(member, set()).update(values)
    return found


def _plain(schema: dict[str, Any]) -> Any:
    """The schema with references resolved and annotations left out."""
    return _strip(jsonref.replace_refs(schema, proxies=False, lazy_load=False))


def _strip(node: Any, *, names: bool = False) -> Any:
    """`names`: the keys of this object are property names, not words of JSON Schema."""
    if isinstance(node, dict):
        kept = (
            node
            if names
            else {k: v for k, v in node.items() if k not in _NOT_CONSTRAINTS and (k, v) != ("required", [])}
        )
        return {k: _strip(v, names=k == "properties" and not names) for k, v in kept.items()}
    return [_strip(child) for child in node] if isinstance(node, list) else node


def write(event: type[Event]) -> None:
    """Publish the schema of an event; refuses an incompatible change of a published version."""
    found = problem(event)
    if found and _WRITE not in found:
        raise SystemExit(found)
    path_of(event).write_text(rendered(event))


def main() -> int:
    if "--write" in sys.argv[1:]:
        for event in EVENTS:
            write(event)
    problems = [found for event in EVENTS if (found := problem(event))]
    print("\n".join(problems) or f"{len(EVENTS)} schemas are as published")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
