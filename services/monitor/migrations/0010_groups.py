"""Columns within groups of segments: where their detector stands, as `watch` has it of the wholes."""

from alembic import op

revision = "0010"
down_revision = "0009"

_STATEMENTS = (
    """
    CREATE TABLE group_watch (
        endpoint text PRIMARY KEY,
        version integer NOT NULL,
        unit text NOT NULL,
        state bytea NOT NULL
    )
    """,
    "SELECT public.fairlead_secure('monitor.group_watch')",
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
