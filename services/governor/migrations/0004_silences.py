"""Maintenance windows: alerts are raised and kept, and told when the window is over."""

from alembic import op

revision = "0004"
down_revision = "0003"

_STATEMENTS = (
    """
    CREATE TABLE alert_silence (
        id uuid PRIMARY KEY,
        unit text NOT NULL,
        endpoint text,
        kind text,
        starts_at timestamptz NOT NULL,
        ends_at timestamptz NOT NULL CHECK (ends_at >= starts_at),
        comment text NOT NULL,
        author text NOT NULL,
        made_at timestamptz NOT NULL,
        ended_by text
    )
    """,
    "CREATE INDEX ON alert_silence (ends_at)",
    "CREATE INDEX ON alert_silence (made_at DESC, id DESC)",
    "SELECT public.fairlead_secure('governor.alert_silence')",
    "ALTER TABLE alert_course ADD COLUMN silenced boolean NOT NULL DEFAULT false",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
