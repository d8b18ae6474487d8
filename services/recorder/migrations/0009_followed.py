"""When the decision of an observed outcome was made: lists by what followed, the newest first."""

from alembic import op

revision = "0009"
down_revision = "0008"

_STATEMENTS = (
    "ALTER TABLE outcome ADD COLUMN decided_at timestamptz",
    # The recorder fills it for what was observed before, by and by: nobody waits for that here.
    "CREATE INDEX outcome_undated ON outcome (inference_id) WHERE state = 'observed' AND decided_at IS NULL",
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
