"""What a drift's alarm says of it, from the evidence in the event."""

from collections.abc import Sequence

from contracts import FeatureEvidence, InfluenceEvidence, PerformanceEvidence, Window

_NAMED = 5


def moved(features: Sequence[FeatureEvidence]) -> str:
    """The columns that moved most, each with its size, its interval and what would not have mattered."""
    most = sorted(features, key=lambda feature: -abs(feature.effect))
    told = [_moved(feature) for feature in most[:_NAMED]]
    more = f", and {len(most) - _NAMED} more" if len(most) > _NAMED else ""
    return (", ".join(told) or "no single column") + more


def _moved(feature: FeatureEvidence) -> str:
    low, high = feature.interval
    size = f"{feature.name} by {feature.effect:+.2f} {feature.unit}"
    if feature.measure not in (None, "performance"):
        size = f"{feature.name}: {feature.told}"
    if feature.before is not None:
        size += f", {feature.unit} {feature.effect:.2f}"
    return f"{size} ({low:+.2f} to {high:+.2f}, tolerance {feature.tolerance:g})"


def rests_on(found: Sequence[InfluenceEvidence], features: Sequence[FeatureEvidence]) -> str:
    """The columns whose influence grew or shrank most, in parts of all influence, with the interval of the change."""
    both = sorted(zip(found, features, strict=False), key=lambda each: -abs(each[1].effect))
    told = [
        f"{one.column} {'grew' if one.now > one.before else 'shrank'} from {one.before:.1%} to {one.now:.1%} of all "
        f"influence ({feature.interval[0]:+.1%} to {feature.interval[1]:+.1%}, tolerance {feature.tolerance:.1%})"
        for one, feature in both[:_NAMED]
    ]
    more = f", and {len(both) - _NAMED} more" if len(both) > _NAMED else ""
    return ", ".join(told) + more


def worse(found: PerformanceEvidence) -> str:
    """How often, or how far, decisions are wrong now, and were before."""
    low, high = found.interval
    return (
        f"{found.metric} {found.now:.3g} ({low:.3g} to {high:.3g}, {found.labelled} labelled rows) "
        f"instead of {found.before:.3g}"
    )


def cost(found: PerformanceEvidence) -> str | None:
    """What the errors beyond those before cost; None where no value matrix says so."""
    if found.cost_per_1000 is None:
        return None
    told = f"{found.cost_per_1000:,.2f} in 1,000 decisions, by the value matrix"
    if not found.rows_a_day:
        return told
    return f"{told}: {found.cost_per_1000 * found.rows_a_day / 1_000:,.2f} a day at {found.rows_a_day:,.0f} decisions"


def seen(window: Window, statistic: float, budget_rows: int, rows: str = "rows") -> str:
    """Where it was seen, and how rarely that is chance."""
    return (
        f"seen in a window of {window.rows} {rows}; log evidence {statistic:.1f}, at a budget of one false alarm in "
        f"{budget_rows:,} rows"
    )
