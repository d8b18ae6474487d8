"""Commands of operators: drift, rules, retrain, replay, report, topics, status."""

from typing import Annotated, Any

import typer
from rich.markdown import Markdown

from fairlead.answers import Drift, Platform, TopicState
from fairlead.attributions import AttributionDrift
from fairlead.rules import Rules
from fairlead.slices import SegmentDrift
from fairlead.trials import DryRun

from .following import finish_replay, finish_retraining, until_settled
from .output import Exit, Json, err, named, out, refusals, render, show_facts, show_json, show_table
from .session import client

app = typer.Typer()

Endpoint = Annotated[str, typer.Argument(help="The endpoint's name.")]


@app.command()
def drift(
    context: typer.Context,
    endpoint: Endpoint,
    segments: Annotated[bool, typer.Option("--segments", help="Within each group of its segments instead.")] = False,
    attributions: Annotated[
        bool, typer.Option("--attributions", help="Of what its decisions rest on instead.")
    ] = False,
    json: Json = False,
) -> None:
    """Show how far an endpoint is from its baseline."""
    if segments and attributions:
        raise typer.BadParameter("give --segments or --attributions, not both")
    with refusals():
        if attributions:
            influence = client(context).attribution_drift(endpoint)
            return render(influence, json, lambda: _attributions(influence))
        if segments:
            by_group = client(context).segment_drift(endpoint)
            return render(by_group, json, lambda: _segments(by_group))
        found = client(context).drift(endpoint)
    return render(found, json, lambda: _drift(found))


def _segments(found: SegmentDrift) -> None:
    show_facts({
        "endpoint": found.endpoint, "version": found.version, "from": found.start, "to": found.end,
        "windows": found.windows, "rows": found.rows, "tolerance": found.tolerance,
    })  # fmt: skip
    out.print()
    show_table(
        ["Segment", "Group", "Rows", "Feature", "PSI", "Interval", "Beyond"],
        (
            [g.segment, g.group, g.rows, c.name, f"{c.effect:.3g}", f"{c.interval[0]:.3g} … {c.interval[1]:.3g}",
             "yes" if c.beyond else ""]
            for g in found.groups
            for c in g.columns
        ),
        "No group has rows enough.",
        right=["Rows", "PSI"],
    )  # fmt: skip
    for group in found.groups:
        if group.why:
            out.print(f"[dim]{group.segment} {group.group}: {group.why} ({group.rows})[/dim]")


def _attributions(found: AttributionDrift) -> None:
    show_facts({
        "endpoint": found.endpoint, "version": found.version, "state": found.state, "why": found.why,
        "since": found.since, "evidence": found.statistic, "alarm at": found.threshold, "output": found.output,
        "training rows": found.reference_rows, "windows": found.windows, "explained decisions": found.rows,
        "tolerance": found.tolerance,
    })  # fmt: skip
    out.print()
    show_table(
        ["Feature", "Before", "Now", "Change", "Interval", "Beyond"],
        (
            [c.column, _share(c.before), _share(c.now), _share(c.effect, "+"),
             f"{_share(c.interval[0], '+')} … {_share(c.interval[1], '+')}" if c.interval else None,
             "yes" if c.beyond else ""]
            for c in found.columns
        ),
        "No column's influence is known.",
        right=["Before", "Now", "Change"],
    )  # fmt: skip


def _share(share: float | None, sign: str = "") -> str | None:
    return None if share is None else f"{share:{sign}.1%}"


def _drift(found: Drift) -> None:
    show_facts({
        "endpoint": found.endpoint, "drifting": found.drifting, "since": found.since,
        "evidence": found.statistic, "alarm at": found.threshold,
    })  # fmt: skip
    out.print()
    show_table(
        ["Feature", "Moved", "Effect", "Interval", "Tolerance", "Unit"],
        (
            [
                f.name,
                f.told if f.measure else None,
                f.effect,
                f"{f.interval[0]:.3g} … {f.interval[1]:.3g}",
                f.tolerance,
                f.unit,
            ]
            for f in found.features
        ),
        "No feature is beyond its tolerance.",
        right=["Effect", "Tolerance"],
    )


@app.command()
def rules(
    context: typer.Context,
    endpoint: Endpoint,
    windows: Annotated[int, typer.Option(min=1, max=2_000, help="So many of the newest windows.")] = 60,
    json: Json = False,
) -> None:
    """Show how decisions of an endpoint kept its business rules."""
    with refusals():
        found = client(context).rules(endpoint, windows=windows)
    render(found, json, lambda: _rules(found))


def _rules(found: Rules) -> None:
    show_facts({
        "endpoint": found.endpoint, "from": found.start, "to": found.end, "windows": found.windows, "rows": found.rows,
    })  # fmt: skip
    out.print()
    show_table(
        ["Rule", "Must", "Rows", "Broken", "Share", "May", "Undecided", "Not looked at", "Since", "First decision"],
        (
            [r.name, r.must, r.rows, r.broken, None if r.share is None else f"{r.share:.3%}", f"{r.tolerance:.3%}",
             r.undecided, r.not_looked_at, r.since, r.examples[0].inference_id if r.examples else None]
            for r in found.rules
        ),
        "No rule is set.",
        right=["Rows", "Broken", "Share", "May", "Undecided", "Not looked at"],
    )  # fmt: skip
    for rule in found.rules:
        if rule.why:
            out.print(f"{rule.name} cannot be evaluated: {rule.why}", markup=False)


@app.command()
def dry_run(
    context: typer.Context,
    endpoint: Endpoint,
    tolerance: Annotated[float | None, typer.Option(help="The smallest effect that matters.")] = None,
    budget: Annotated[int | None, typer.Option(help="Rows between two false alarms.")] = None,
    season: Annotated[float | None, typer.Option(help="A period that comes again, in seconds; 0: none.")] = None,
    unusable: Annotated[float | None, typer.Option(help="The share of unusable values, beyond the usual one.")] = None,
    errors: Annotated[float | None, typer.Option(help="The share of wrong decisions that is accepted.")] = None,
    json: Json = False,
) -> None:
    """Show which alarms a setting would have raised over what is recorded."""
    given = {
        "tolerance": tolerance, "budget_rows": budget, "season_s": season, "quality_tolerance": unusable,
        "expected_error": errors,
    }  # fmt: skip
    with refusals():
        found = client(context).dry_run(endpoint, **{name: v for name, v in given.items() if v is not None})
    render(found, json, lambda: _tried(found))


def _tried(found: DryRun) -> None:
    show_facts({
        "endpoint": found.endpoint, "version": found.version, "from": found.start, "to": found.end,
        "windows": found.windows, "rows": found.rows, "labels": found.labels,
    })  # fmt: skip
    for name, trial in (("present", found.present), ("proposed", found.proposed)):
        out.print(
            f"\n{name}: budget {trial.budget_rows:,} rows, tolerance {trial.tolerance:g}, "
            f"season {f'{trial.season_s:g} s' if trial.season_s else 'none'}; {len(trial.notes)} notes"
        )
        show_table(
            ["Alarm at", "Since", "Rows", "Where", "What moved"],
            (
                [a.at, a.since, a.rows_watched, a.segment, ", ".join(f"{f.name} {f.told}" for f in a.features)]
                for a in trial.alarms
            ),
            "No alarm.",
            right=["Rows"],
        )


@app.command()
def retrain(
    context: typer.Context,
    endpoint: Endpoint,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; it is audited.")],
    since: Annotated[str | None, typer.Option(help="Learn from rows recorded since this time (ISO 8601).")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until it is done; 0: do not wait.")] = 0.0,
    json: Json = False,
) -> None:
    """Ask for the model behind an endpoint to be trained anew on recorded rows."""
    with refusals():
        fl = client(context)
        found = until_settled(fl.retrain(endpoint, reason, since=since), fl.retraining, wait)
    finish_retraining(found, wait, json)


@app.command()
def replay(
    context: typer.Context,
    endpoint: Endpoint,
    model: Annotated[str, typer.Option("--model", "-m", help="The challenger.")],
    version: Annotated[int, typer.Option("--version", "-v", min=1, help="Its version.")],
    since: Annotated[str | None, typer.Option(help="Only what was decided since this time (ISO 8601).")] = None,
    until: Annotated[str | None, typer.Option(help="Only what was decided before this time (ISO 8601).")] = None,
    against: Annotated[int | None, typer.Option(min=1, help="Only what this version decided.")] = None,
    of: Annotated[str | None, typer.Option(help="The model that decided, where it is another one.")] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until it is done; 0: do not wait.")] = 0.0,
    json: Json = False,
) -> None:
    """Hold a version against what was decided behind an endpoint: agreement, and who was right."""
    with refusals():
        fl = client(context)
        asked = fl.replay_decisions(
            endpoint, model=model, version=version, of=of, since=since, until=until, against=against
        )  # fmt: skip
        found = until_settled(asked, fl.replay_of_decisions, wait)
    finish_replay(found, wait, json)


@app.command()
def report(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(help="The kind of report: history tells all that happened to a model.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="The model that it is about.")] = None,
    filter: Annotated[list[str] | None, typer.Option("--filter", "-f", help="What it is about, as name=value.")] = None,
    json: Json = False,
) -> None:
    """Print a report."""
    pairs = named(filter, beside=("kind", "model"))
    with refusals():
        document = client(context).report(kind, model=model, **pairs)
    if json or "markdown" not in document:
        show_json(document)
    else:
        out.print(Markdown(document["markdown"]))
    if document.get("next"):
        err.print(f"This is not all: go on with --filter cursor={document['next']}")


@app.command()
def topics(context: typer.Context, json: Json = False) -> None:
    """List the topics with rate, lag and dead letters."""
    with refusals():
        page = client(context).topics()
    render(page, json, lambda: show_table(
        ["Topic", "Records", "Rate/s", "Size", "Lag", "Dead letters"],
        (
            [t.topic, t.records, t.rate, _size(t.bytes), _lag(t), "–" if t.dead_letters is None else t.dead_letters]
            for t in page.items
            if not t.topic.startswith("dlq.")
        ),
        "There are no topics. Is the platform up? (make up)",
        right=["Records", "Rate/s", "Size", "Lag", "Dead letters"],
    ))  # fmt: skip


def _lag(topic: TopicState) -> int:
    return max((group.lag for group in topic.groups), default=0)


def _size(size: int | None) -> str:
    if size is None:
        return "–"
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


@app.command()
def status(context: typer.Context, json: Json = False) -> None:
    """Show who is where and who is ready; exit code 1 when somebody is not."""
    with refusals():
        platform = client(context).status()
    render(platform, json, lambda: _status(platform))
    if not platform.ready:
        raise typer.Exit(Exit.REFUSED)


def _status(platform: Platform) -> None:
    show_table(
        ["Service", "Address", "State", "Why"],
        ([s.service, s.url, _state(s), _problems(s.problems)] for s in platform.services),
        "The platform names no services.",
    )


def _state(service: Any) -> str:
    return "ready" if service.ready else "not ready"


def _problems(problems: dict[str, str]) -> str:
    return "; ".join(f"{part}: {reason}" for part, reason in problems.items())
