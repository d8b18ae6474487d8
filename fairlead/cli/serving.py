"""Commands about how endpoints serve: levels, budgets, costs; where they are worst, and what a shadow would do."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from fairlead.comparisons import Comparison, Comparisons, Figure
from fairlead.levels import Levels, Service
from fairlead.slices import Search, Slice, Slices

from .output import Json, out, refusals, render, show_facts, show_table
from .session import client

app = typer.Typer()


@app.command()
def service(
    context: typer.Context,
    endpoint: Annotated[str, typer.Argument(help="The endpoint's name.")],
    span: Annotated[str, typer.Option(help="Of the last so much time: 90m, 24h, 7d, 30d.")] = "24h",
    json: Json = False,
) -> None:
    """Show how an endpoint serves, against what its use case promises, and what it costs."""
    with refusals():
        found = client(context).service(endpoint, span=span)
    render(found, json, lambda: _service(found))


def _service(found: Service) -> None:
    show_facts({
        "endpoint": found.endpoint, "use case": found.use_case, "from": found.window.start, "to": found.window.end,
        "alarms": [f"{alarm.severity}: {alarm.detail}" for alarm in found.alarms],
    })  # fmt: skip
    out.print()
    show_table(
        ["Version", "Requests", "p50 ms", "p95 ms", "p99 ms", "Available", "Failed", "Refused", "Cost", "Per 1,000"],
        (_levels(each) for each in [*found.versions, found.total]),
        "Nothing was asked.",
        right=["Requests", "p50 ms", "p95 ms", "p99 ms", "Available", "Failed", "Refused", "Cost", "Per 1,000"],
    )
    out.print()
    show_table(
        ["Promised", "Share", "Good", "Bad allowed", "Spent", "Left", "Burn rate", "Last hour"],
        _budgets(found),
        "No promise is known to be kept or broken.",
        right=["Share", "Good", "Bad allowed", "Spent", "Left", "Burn rate", "Last hour"],
    )
    for what, why in found.total.unknown.items():
        out.print(f"[dim]{what} is not known: {why}[/dim]")


def _levels(each: Levels) -> list[Any]:
    name = f"{each.model} v{each.version}" if each.model else "all"
    quantiles = [each.latency.p50_ms, each.latency.p95_ms, each.latency.p99_ms] if each.latency else [None] * 3
    cost = [f"{each.cost.total:.4g} {each.cost.currency}", each.cost.per_1000_inferences] if each.cost else [None] * 2
    return [name, each.requests, *quantiles, _percent(each.availability), each.failed, each.refused, *cost]


def _budgets(found: Service) -> Iterator[list[Any]]:
    for name in ("latency", "availability"):
        budget, now = getattr(found.total.budgets, name), getattr(found.last_hour, name)
        if budget:
            yield [
                name, _percent(budget.objective), _percent(budget.good), budget.allowed, budget.spent, budget.left,
                budget.burn_rate, now.burn_rate if now else None,
            ]  # fmt: skip


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.3%}"


@app.command()
def slices(
    context: typer.Context,
    endpoint: Annotated[str, typer.Argument(help="The endpoint's name.")],
    version: Annotated[int | None, typer.Option("--version", "-v", min=1, help="Only this version.")] = None,
    since: Annotated[str | None, typer.Option(help="Only what was decided since this time (ISO 8601).")] = None,
    until: Annotated[str | None, typer.Option(help="Only what was decided before this time (ISO 8601).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many slices of each version.")] = 20,
    json: Json = False,
) -> None:
    """Show the groups in which an endpoint is surely worse than elsewhere, the worst first."""
    with refusals():
        found = client(context).slices(endpoint, version=version, since=since, until=until, limit=limit)
    render(found, json, lambda: _slices(found))


def _slices(found: Slices) -> None:
    if not found.searches:
        out.print("No outcome of a decision with segments is known: does the model name segments (fairlead.yaml)?")
    for search in found.searches:
        out.print(
            f"\nv{search.version} {search.variant}: {search.metric} {search.loss:.3g}; {search.looked_at} of "
            f"{search.possible} slices of {', '.join(search.segments)} have enough rows, {search.worse} are worse "
            f"({found.confidence:.0%} for all of them together)"
        )
        show_table(
            ["Place", "Where", "Rows", "Here", "Elsewhere", "Worse by", "Interval", "Excess", "Like"],
            (_slice(search, place, each) for place, each in enumerate(search.slices, 1)),
            "No slice is surely worse than the rest.",
            right=["Place", "Rows", "Here", "Elsewhere", "Worse by", "Excess", "Like"],
        )


def _slice(search: Search, place: int, each: Slice) -> list[Any]:
    def said(loss: float) -> str:
        return f"{loss:.1%}" if search.metric == "error rate" else f"{loss:.4g}"

    low, high = each.difference.interval
    return [
        place, " and ".join(f"{c.segment} {c.group}" for c in each.where), each.loss.rows, said(each.loss.value),
        said(each.rest.value), said(each.difference.value), f"{said(low)} … {said(high)}", f"{each.excess:.4g}",
        each.like,
    ]  # fmt: skip


@app.command()
def compare(
    context: typer.Context,
    endpoint: Annotated[str, typer.Argument(help="The endpoint's name.")],
    since: Annotated[str | None, typer.Option(help="Only what was decided since this time (ISO 8601).")] = None,
    until: Annotated[str | None, typer.Option(help="Only what was decided before this time (ISO 8601).")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many windows.")] = 24,
    json: Json = False,
) -> None:
    """Show how a shadow would have decided the same requests, and who was right."""
    with refusals():
        found = client(context).compare(endpoint, since=since, until=until, limit=limit)
    render(found, json, lambda: _compare(found))


def _compare(found: Comparisons) -> None:
    if not found.comparisons:
        out.print("No shadow answered a request that callers were answered.")
    for each in found.comparisons:
        _compared(each, found.confidence)


def _compared(each: Comparison, confidence: float) -> None:
    answers, outcomes = each.overall.answers, each.overall.outcomes
    of = "" if answers.answered is None else f" of {answers.answered}"
    out.print(
        f"\nv{each.version} {each.variant} beside v{each.against}: {answers.rows}{of} rows compared, {answers.failed} "
        f"not answered by it, {answers.unknown} not known; of {outcomes.rows} with an outcome it is {outcomes.verdict}"
    )
    figures = [*answers.statistics, *outcomes.statistics]
    named = ["Figure", "Value", f"{confidence:.0%} interval", "Rows"]
    show_table(named, map(_figure, figures), "Nothing is compared yet.", right=["Value", "Rows"])
    if outcomes.rows and each.task != "regression":
        out.print(
            f"right: both {outcomes.both_right}, only v{each.against} {outcomes.only_told_right}, only v{each.version} "
            f"{outcomes.only_said_right}, none {outcomes.both_wrong}"
        )
    for group in answers.groups[:5]:
        out.print(f"{group.segment} {group.group}: {' '.join(str(said) for said in _figure(group.statistic)[:3])}")
    for name, told in ((each.against, answers.told_latency), (each.version, answers.said_latency)):
        if told:
            out.print(f"v{name}: p50 {told.p50_ms} ms, p95 {told.p95_ms} ms")


def _figure(each: Figure) -> list[Any]:
    value = each.why or "" if each.value is None else f"{each.value:.4g}"
    interval = "" if each.interval is None else f"{each.interval[0]:.4g} … {each.interval[1]:.4g}"
    return [each.name, value, interval, each.rows]
