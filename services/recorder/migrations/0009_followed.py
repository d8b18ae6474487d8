"""When the decision of an observed outcome was made: lists by what followed, the newest first."""

from alembic import op

revision = "0009"
down_revision = "0008"

_STATEMENTS = (
    "ALTER TABLE outcome ADD COLUMN decided_at timestamptz",
    # Row-level security holds for a table's owner too.
    "SELECT set_config('app.units', '*', true)",
    """
    UPDATE outcome SET decided_at = decision.received_at FROM decision
    WHERE decision.inference_id = outcome.inference_id AND outcome.state = 'observed'
    """,
    "SELECT set_config('app.units', '', true)",
    "CREATE INDEX outcome_followed ON outcome (unit, decided_at DESC, inference_id DESC) WHERE state = 'observed'",
    """
    CREATE INDEX outcome_labelled ON outcome (unit, label, decided_at DESC, inference_id DESC)
        WHERE state = 'observed' AND label IS NOT NULL
    """,
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
