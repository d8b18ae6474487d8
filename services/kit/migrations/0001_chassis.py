"""The chassis tables of every service: outbox, inbox, counter, parked events, idempotency keys, stream offsets."""

from alembic import op

revision = "0001"
down_revision = None

_TABLES = (
    # One row: the numbers are taken as the last statement of a transaction, so they have no gaps and follow the
    # order of commits (ADR 0002).
    """
    CREATE TABLE counter (
        single boolean PRIMARY KEY DEFAULT true CHECK (single),
        outbox bigint NOT NULL DEFAULT 0,
        audit bigint NOT NULL DEFAULT 0,
        published bigint NOT NULL DEFAULT 0
    )
    """,
    "INSERT INTO counter DEFAULT VALUES",
    """
    CREATE TABLE outbox (
        number bigint PRIMARY KEY,
        audit bigint,
        topic text NOT NULL,
        key text NOT NULL,
        headers jsonb NOT NULL,
        value text,
        written_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    """
    CREATE TABLE inbox (
        event text PRIMARY KEY,
        handled_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX ON inbox (handled_at)",
    """
    CREATE TABLE parked (
        topic text NOT NULL,
        partition integer NOT NULL,
        "offset" bigint NOT NULL,
        key text NOT NULL,
        headers jsonb NOT NULL,
        value text,
        reason text NOT NULL,
        parked_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (topic, partition, "offset")
    )
    """,
    """
    CREATE TABLE idempotency (
        key text PRIMARY KEY,
        digest text NOT NULL,
        status integer,
        headers jsonb,
        body bytea,
        made_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE stream_offset (
        name text NOT NULL,
        topic text NOT NULL,
        partition integer NOT NULL,
        next bigint NOT NULL,
        PRIMARY KEY (name, topic, partition)
    )
    """,
)


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
