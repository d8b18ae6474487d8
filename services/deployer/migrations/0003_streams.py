"""How far an endpoint's topics are, since when Kafka refuses to close them, and when a deployment was settled."""

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    "ALTER TABLE endpoint_name ADD COLUMN topics text NOT NULL DEFAULT 'closed'",
    "ALTER TABLE endpoint_name ADD COLUMN refused_at timestamptz",
    "UPDATE endpoint_name SET topics = 'open' WHERE streams_open",
    "ALTER TABLE endpoint_name DROP COLUMN streams_open",
    "ALTER TABLE deployment ADD COLUMN settled_at timestamptz",
    "SELECT set_config('app.units', '*', true)",
    # One that rolls out although it served before was brought back: it is settled long since.
    """
    UPDATE deployment SET settled_at = changed_at
    WHERE state NOT IN ('requested', 'in_review', 'rolling_out')
       OR id IN (SELECT deployment_id FROM serving)
    """,
    "CREATE INDEX ON deployment (model, version)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
