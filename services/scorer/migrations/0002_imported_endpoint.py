"""An imported id belongs to the endpoint that first brought it."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE imported ADD COLUMN endpoint text")
