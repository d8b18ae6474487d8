"""What a batch said in a few lines, and where its result is to be written besides."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("ALTER TABLE batch ADD COLUMN summary text, ADD COLUMN output text, ADD COLUMN schedule uuid")
