"""What is watched, partial and closed windows, detectors' states, findings."""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    """
    CREATE TABLE endpoint (
        endpoint text PRIMARY KEY,
        unit text NOT NULL,
        use_case text NOT NULL,
        revision integer NOT NULL,
        serving boolean NOT NULL,
        model text NOT NULL,
        version integer NOT NULL,
        settings jsonb NOT NULL,
        override jsonb,
        changed_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # Every version that ever served: its log records may come after the next one took over.
    """
    CREATE TABLE version (
        endpoint text NOT NULL,
        version integer NOT NULL,
        unit text NOT NULL,
        model text NOT NULL,
        baseline_digest text,
        model_schema jsonb NOT NULL,
        PRIMARY KEY (endpoint, version)
    )
    """,
    # What a worker saw of a window in one batch. Only added and, once merged, deleted: workers share no row.
    """
    CREATE TABLE part (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        endpoint text NOT NULL,
        version integer NOT NULL,
        unit text NOT NULL,
        start timestamptz NOT NULL,
        "end" timestamptz NOT NULL,
        partition integer NOT NULL,
        first_offset bigint NOT NULL,
        data bytea NOT NULL
    )
    """,
    'CREATE INDEX ON part ("end", endpoint)',
    "CREATE INDEX ON part (endpoint, version, start)",
    """
    CREATE TABLE closed_window (
        endpoint text NOT NULL,
        version integer NOT NULL,
        start timestamptz NOT NULL,
        "end" timestamptz NOT NULL,
        unit text NOT NULL,
        revision integer NOT NULL,
        rows bigint NOT NULL,
        data bytea,
        report jsonb NOT NULL,
        PRIMARY KEY (endpoint, version, start, "end")
    )
    """,
    "CREATE INDEX ON closed_window (endpoint, start DESC, version DESC)",
    """
    CREATE TABLE watch (
        endpoint text PRIMARY KEY,
        version integer NOT NULL,
        unit text NOT NULL,
        state bytea NOT NULL
    )
    """,
    """
    CREATE TABLE finding (
        id uuid PRIMARY KEY,
        endpoint text NOT NULL,
        unit text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('alarm', 'note')),
        found_at timestamptz NOT NULL,
        event jsonb NOT NULL,
        closed_at timestamptz,
        closed_because text
    )
    """,
    "CREATE INDEX ON finding (endpoint, found_at DESC)",
    "CREATE UNIQUE INDEX one_open_alarm ON finding (endpoint) WHERE kind = 'alarm' AND closed_at IS NULL",
    # How far each partition is, and the highest number of each writer in it: no data of anybody's.
    """
    CREATE TABLE progress (
        partition integer PRIMARY KEY,
        event_time timestamptz,
        read_to_end_at timestamptz
    )
    """,
    """
    CREATE TABLE writer (
        partition integer NOT NULL,
        writer text NOT NULL,
        seq bigint NOT NULL,
        seen_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (partition, writer)
    )
    """,
    *(
        f"SELECT public.fairlead_secure('monitor.{table}')"
        for table in ("endpoint", "version", "part", "closed_window", "watch", "finding")
    ),
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
