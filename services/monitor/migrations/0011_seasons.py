"""Seasons that were learned, and the counts by hour that tell of them."""

from alembic import op

revision = "0011"
down_revision = "0010"

_STATEMENTS = (
    "ALTER TABLE endpoint ADD COLUMN learned_season_s double precision, ADD COLUMN season_learned_at timestamptz",
    # Closed windows put together, up to the one that began at `upto`; written by the endpoint's owner alone.
    """
    CREATE TABLE season_hour (
        endpoint text NOT NULL,
        version integer NOT NULL,
        unit text NOT NULL,
        start timestamptz NOT NULL,
        upto timestamptz NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (endpoint, version, start)
    )
    """,
    "CREATE INDEX ON season_hour (start)",
    "SELECT public.fairlead_secure('monitor.season_hour')",
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
