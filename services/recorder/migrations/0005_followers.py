"""The shadows of a decision, and what was observed lately: what is true of a row is true for its shadows."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    "CREATE INDEX ON decision (shadow_of) WHERE shadow_of IS NOT NULL",
    "CREATE INDEX ON outcome (observed_at) WHERE state = 'observed'",
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
