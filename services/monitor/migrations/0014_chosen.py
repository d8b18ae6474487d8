"""Where the detectors stand that an operator chose for an endpoint: on columns, and on labels."""

from alembic import op

revision = "0014"
down_revision = "0013"

_STATEMENTS = (
    """
    CREATE TABLE chosen_watch (
        endpoint text NOT NULL,
        "of" text NOT NULL,
        version integer NOT NULL,
        unit text NOT NULL,
        state bytea NOT NULL,
        PRIMARY KEY (endpoint, "of")
    )
    """,
    "SELECT public.fairlead_secure('monitor.chosen_watch')",
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
