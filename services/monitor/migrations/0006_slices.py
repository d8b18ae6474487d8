"""Losses by slice, to search for the worst ones: by day of the decision's window, since pairs of groups are many."""

from alembic import op

revision = "0006"
down_revision = "0005"

_STATEMENTS = (
    # As with `performance`, a partition of `outcome.observed` has rows of its own: nobody waits.
    """
    CREATE TABLE slices (
        endpoint text NOT NULL,
        version integer NOT NULL,
        variant text NOT NULL,
        start timestamptz NOT NULL,
        "end" timestamptz NOT NULL,
        partition integer NOT NULL,
        unit text NOT NULL,
        task text NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (endpoint, version, variant, start, "end", partition)
    )
    """,
    "CREATE INDEX ON slices (start)",
    "SELECT public.fairlead_secure('monitor.slices')",
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
