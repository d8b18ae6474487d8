"""Whose a name is for ever, which streams are open, what was forgotten, and the story of each deployment."""

from alembic import op

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    # Names are unique in an installation, so whose one is must be seen from every unit: no row-level security, and
    # nothing in it that a person reads. A name stays its unit's: its topics keep what was streamed.
    """
    CREATE TABLE endpoint_name (
        endpoint text PRIMARY KEY,
        unit text NOT NULL,
        streams_open boolean NOT NULL DEFAULT false,
        forgotten boolean NOT NULL DEFAULT false
    )
    """,
    "SELECT set_config('app.units', '*', true)",
    "INSERT INTO endpoint_name (endpoint, unit, streams_open) SELECT endpoint, unit, streaming FROM endpoint",
    "ALTER TABLE deployment ADD COLUMN correlation_id text NOT NULL DEFAULT ''",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
