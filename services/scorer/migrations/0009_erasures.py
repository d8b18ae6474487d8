"""Explanations end with their decisions: by age, and when those are erased."""

from alembic import op

revision = "0009"
down_revision = "0008"

_STATEMENTS = (
    "SELECT set_config('app.units', '*', true)",
    "ALTER TABLE explanation ADD COLUMN decided_at timestamptz",
    "UPDATE explanation SET decided_at = asked_at",
    "ALTER TABLE explanation ALTER COLUMN decided_at SET NOT NULL",
    "CREATE INDEX ON explanation (decided_at)",
    # What is being explained while its decision is erased is not kept.
    "CREATE TABLE erased_decision (inference_id text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())",
    "CREATE INDEX ON erased_decision (at)",
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
