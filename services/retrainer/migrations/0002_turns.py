"""A turn, not a name, says who works: nobody reads which process held a job."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE job DROP COLUMN holder")
