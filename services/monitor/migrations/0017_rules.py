"""Business rules: where the watch of each endpoint's rules stands."""

from alembic import op

revision = "0017"
down_revision = "0016"

_STATEMENTS = (
    """
    CREATE TABLE rule_watch (
        endpoint text NOT NULL,
        rule text NOT NULL,
        unit text NOT NULL,
        state jsonb NOT NULL,
        PRIMARY KEY (endpoint, rule)
    )
    """,
    "SELECT public.fairlead_secure('monitor.rule_watch')",
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
