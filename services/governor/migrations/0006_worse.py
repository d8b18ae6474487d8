"""An episode that becomes worse is told again: at which severity each was told, and each course began."""

from alembic import op

revision = "0006"
down_revision = "0005"

_STATEMENTS = (
    "ALTER TABLE alert_told ADD COLUMN severity text NOT NULL DEFAULT ''",
    "ALTER TABLE alert_told DROP CONSTRAINT alert_told_pkey, "
    "ADD PRIMARY KEY (alert_id, episode, channel_key, what, step, severity)",
    "ALTER TABLE alert_course ADD COLUMN severity text NOT NULL DEFAULT 'info'",
    "ALTER TABLE alert_course ADD COLUMN worse boolean NOT NULL DEFAULT false",
    "SELECT set_config('app.units', '*', true)",
    "UPDATE alert_course c SET severity = a.severity FROM alert a WHERE a.id = c.alert_id",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
