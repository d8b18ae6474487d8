"""Labels of a version in the order in which they came, to try settings over them; whether a shadow decided it."""

from alembic import op

revision = "0018"
down_revision = "0017"

_STATEMENTS = (
    "ALTER TABLE outcome ADD COLUMN shadow boolean NOT NULL DEFAULT false",
    "CREATE INDEX ON outcome (endpoint, version, observed_at)",
)


def upgrade() -> None:
    """Of what was counted before, nobody knows whether a shadow decided it."""
    for statement in _STATEMENTS:
        op.execute(statement)
