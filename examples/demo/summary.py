"""What the story saw, in figures, and where to look further."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .story import Story


def show(console: Console, story: Story) -> None:
    """Print the figures and the links."""
    seen, cast = story.seen, story.cast
    table = Table(title=f"\nWhat happened to {cast.endpoint}", show_header=False, title_justify="left")
    rows = [
        ("Served after the grant", f"{seen.served_after_s:.1f} s"),
        ("Own grant of the requester", f"refused: {escape(seen.refused[:90])}"),
        ("Scored by REST", f"{seen.rest.requests:,} requests, {seen.rest.requests / seen.rest.seconds:,.0f} a second, "
                           f"{len(seen.rest.failed)} failed, accuracy {seen.rest.accuracy:.3f}"),
        ("Scored by stream", f"{seen.streamed.requests:,} events in {seen.streamed.seconds:.1f} s, each answered once, "
                             f"accuracy {seen.streamed.accuracy:.3f}"),
        ("Scored by batch", f"{seen.batch['rows_done']:,} rows, {seen.batch['rows_failed']} failed"),
        ("Accuracy on the broken data", f"{seen.drifted.accuracy:.3f}"),
        ("Drift found", f"{seen.drift_after_s:.1f} s after the first broken row, "
                        f"{seen.told_after_s:.1f} s after the window that shows it"),
        ("Retraining", str(seen.retraining.get("reason") or "")),
        ("Promoted", f"v{seen.version} → v{seen.promoted}, {len(seen.trickle.failed)} failed requests of "
                     f"{seen.trickle.requests} meanwhile, answered by "
                     + ", ".join(f"v{v}: {n}" for v, n in sorted(seen.trickle.by_version.items()))),
        ("Accuracy after the promotion", f"{seen.after.accuracy:.3f}"),
        ("Audit ledger", f"{seen.audit.get('records', 0):,} records, verified"),
    ]  # fmt: skip
    for name, value in rows:
        table.add_row(name, value)
    console.print(table)
    url = cast.places["console"]
    links = [
        ("Console, as engineer, who asks", f"{url}/login?token={cast.token('engineer')}"),
        ("Console, as compliance, who decides", f"{url}/login?token={cast.token('compliance')}"),
        ("The last decision by REST", f"{url}/v1/decisions/{seen.rest.last_id}"),
        ("Everybody's tokens", str(cast.home / "tokens")),
        ("Stop it", "make down"),
    ]
    console.print()
    for name, link in links:
        console.print(f"{name}: {escape(link)}", soft_wrap=True)
