"""A batch may be cancelled by who sees it."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.execute("ALTER TABLE batch DROP CONSTRAINT batch_state_check")
    op.execute(
        "ALTER TABLE batch ADD CONSTRAINT batch_state_check"
        " CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled'))"
    )
