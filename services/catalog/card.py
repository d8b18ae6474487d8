"""The model card of a version, from recorded facts alone (Mitchell et al., Model Cards for Model Reporting, 2019)."""

from collections.abc import Iterator, Sequence

from contracts import Column

from .domain import ModelVersion


def markdown(made: ModelVersion, serving: Sequence[str]) -> str:
    """The card as Markdown, for people."""
    return "\n".join(_lines(made, serving)) + "\n"


def _lines(made: ModelVersion, serving: Sequence[str]) -> Iterator[str]:
    candidate, training = made.candidate, made.candidate.training
    yield f"# {made.model}, version {made.version}"
    if candidate.manifest.description:
        yield from ("", _plain(candidate.manifest.description))
    yield from ("", "| | |", "|---|---|")
    facts = {
        "State": made.state,
        "Business unit": made.unit,
        "Registered": f"{made.registered_at:%Y-%m-%d %H:%M} UTC by {made.registered_by}",
        "Format": candidate.manifest.format,
        "Digest": f"`{candidate.digest}`",
        "Serves": ", ".join(serving) or "nowhere",
        "Scan": f"{candidate.scan.verdict} ({candidate.scan.scanner})",
        "Tags": ", ".join(candidate.manifest.tags),
        "Retired": f"by {made.retired_by}: {made.retired_reason}" if made.retired_by else "",
    }
    yield from (f"| {name} | {_plain(value)} |" for name, value in facts.items() if value)
    yield from ("", "## Training", "", f"- rows: {training.rows if training.rows is not None else 'unknown'}")
    yield f"- data: {f'`{training.data_digest}`' if training.data_digest else 'unknown'}"
    if training.retraining_id:
        yield f"- retraining `{training.retraining_id}` of version {training.parent_version}"
    yield from (f"- {_plain(name)}: {value:g}" for name, value in sorted(training.metrics.items()))
    yield from _schema(made)
    if candidate.scan.findings:
        yield from ("", "## Findings", "", *(f"- {_plain(finding)}" for finding in candidate.scan.findings))


def _schema(made: ModelVersion) -> Iterator[str]:
    schema = made.candidate.model_schema
    yield from ("", "## Inputs and outputs", "", "| | Tensor | Datatype | Shape |", "|---|---|---|---|")
    for kind, tensors in (("in", schema.inputs), ("out", schema.outputs)):
        for tensor in tensors:
            yield f"| {kind} | {_plain(tensor.name)} | {tensor.datatype} | {list(tensor.shape)} |"
    if schema.columns:
        yield from ("", "| Column | Kind | Range | Marks |", "|---|---|---|---|")
        yield from (f"| {_plain(c.name)} | {c.kind} | {_range(c)} | {_marks(c)} |" for c in schema.columns)


def _range(column: Column) -> str:
    if column.categories is not None:
        return ", ".join(_plain(each) if isinstance(each, str) else f"{each:g}" for each in column.categories)
    if column.minimum is None and column.maximum is None:
        return ""
    least, most = ("" if bound is None else f"{bound:g}" for bound in (column.minimum, column.maximum))
    return f"{least} … {most}"


def _marks(column: Column) -> str:
    return ", ".join(mark for mark in ("nullable", "sensitive", "protected", "segment") if getattr(column, mark))


def _plain(text: str) -> str:
    """Text that a stranger wrote, without Markdown or HTML of its own."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>()#|!" else letter for letter in " ".join(text.split()))
