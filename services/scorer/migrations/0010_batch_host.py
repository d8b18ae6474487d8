"""Which host alone has the input of a batch: no other may take it."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("ALTER TABLE batch ADD COLUMN host text")
