"""What ended an episode whose raising was not heard yet: the two come over two topics."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("ALTER TABLE alert ADD COLUMN over_at timestamptz, ADD COLUMN over_reason text")
