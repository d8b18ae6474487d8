"""Values that cannot be used: what is watched of each endpoint's serving version, and what was told."""

from alembic import op

revision = "0009"
down_revision = "0008"

_STATEMENTS = (
    """
    CREATE TABLE quality_watch (
        endpoint text PRIMARY KEY,
        version integer NOT NULL,
        unit text NOT NULL,
        told boolean NOT NULL,
        state jsonb NOT NULL
    )
    """,
    "SELECT public.fairlead_secure('monitor.quality_watch')",
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
