"""What stands beside a champion: each deployment's name in its endpoint, and the share that was asked for."""

from alembic import op

revision = "0004"
down_revision = "0003"

_STATEMENTS = (
    "ALTER TABLE deployment ADD COLUMN variant text NOT NULL DEFAULT 'champion'",
    "ALTER TABLE deployment ADD COLUMN weight double precision",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
