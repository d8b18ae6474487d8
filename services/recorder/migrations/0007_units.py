"""Each unit's decisions, newest first: row-level security alone would read everybody's."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("CREATE INDEX ON decision (unit, received_at DESC, inference_id DESC)")
