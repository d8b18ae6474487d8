"""When a report of an outcome is looked up next: those that wait for a decision in vain cost a round nothing."""

from alembic import op

revision = "0008"
down_revision = "0007"

_STATEMENTS = (
    # No `seek_at`: at once. `sought`: how often in vain.
    "ALTER TABLE outcome ADD COLUMN seek_at timestamptz, ADD COLUMN sought smallint NOT NULL DEFAULT 0",
    "ALTER TABLE outcome DROP CONSTRAINT outcome_state_check",
    # NOT VALID: no row is read here; what was valid before is.
    """
    ALTER TABLE outcome ADD CONSTRAINT outcome_state_check
        CHECK (state IN ('waiting', 'observed', 'refused', 'expired')) NOT VALID
    """,
    "CREATE INDEX outcome_new ON outcome (reported_at) WHERE state = 'waiting' AND seek_at IS NULL",
    "CREATE INDEX outcome_due ON outcome (seek_at) WHERE state = 'waiting' AND seek_at IS NOT NULL",
    "CREATE INDEX outcome_asleep ON outcome (inference_id) WHERE state = 'waiting' AND seek_at IS NOT NULL",
    # Inferences whose decisions came while somebody held a report of them that waited: looked up in the next round.
    "CREATE TABLE missed (inference_id text PRIMARY KEY)",
    "CREATE INDEX outcome_expired ON outcome (observed_at) WHERE state = 'expired'",
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
