"""What a decision refers to outlives its file: files are merged and rewritten. What was erased does not come back."""

from alembic import op

revision = "0004"
down_revision = "0003"

_STATEMENTS = (
    "ALTER TABLE decision ADD COLUMN variant text, ADD COLUMN instead_of text, ADD COLUMN sampled boolean",
    "ALTER TABLE decision RENAME COLUMN file TO segment",
    "CREATE INDEX ON decision (use_case, received_at DESC, inference_id DESC)",
    "CREATE INDEX ON decision (application, received_at DESC, inference_id DESC)",
    "CREATE INDEX ON decision (endpoint, version, received_at DESC, inference_id DESC)",
    # What one batch wrote is a segment. It keeps its number when its rows move into another file.
    """
    CREATE TABLE segment (
        id bigint PRIMARY KEY,
        unit text NOT NULL,
        file bigint NOT NULL
    )
    """,
    "CREATE INDEX ON segment (file)",
    # Row-level security holds for a table's owner too.
    "SELECT set_config('app.units', '*', true)",
    "INSERT INTO segment (id, unit, file) SELECT id, unit, id FROM file WHERE NOT removing",
    "SELECT set_config('app.units', '', true)",
    # `pending`: under which name the newest content was written; it waits there while the file is not `placed`.
    # `replaced_by`: the merged file that takes this one's place. `settled`: nothing is left to merge it with.
    """
    ALTER TABLE file ADD COLUMN pending text, ADD COLUMN bytes bigint, ADD COLUMN replaced_by bigint,
        ADD COLUMN settled boolean NOT NULL DEFAULT false,
        ADD COLUMN folder text GENERATED ALWAYS AS (regexp_replace(path, '/[^/]*$', '')) STORED,
        ALTER COLUMN partition DROP NOT NULL, ALTER COLUMN first_offset DROP NOT NULL,
        ALTER COLUMN last_offset DROP NOT NULL
    """,
    "CREATE INDEX ON file (latest) WHERE NOT settled AND NOT removing",
    "CREATE INDEX ON file (folder)",
    "CREATE INDEX ON file (replaced_by) WHERE replaced_by IS NOT NULL",
    # Objects that hold a payload which was too large for the log.
    """
    CREATE TABLE payload (
        inference_id text NOT NULL,
        digest text NOT NULL,
        unit text NOT NULL,
        PRIMARY KEY (inference_id, digest)
    )
    """,
    "CREATE INDEX ON payload (digest)",
    # Objects to be removed, where nothing that stays refers to them. Digests alone: nothing that a person reads.
    "CREATE TABLE doomed (digest text PRIMARY KEY)",
    # `entity` is there while it is needed, `entity_hash` (keyed) for good: it recognises what comes later.
    """
    CREATE TABLE erasure (
        id uuid PRIMARY KEY,
        unit text NOT NULL,
        use_case text,
        entity text,
        entity_hash text NOT NULL,
        reason text NOT NULL,
        requested_by text NOT NULL,
        requested_at timestamptz NOT NULL,
        state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done')),
        problem text,
        decisions bigint NOT NULL DEFAULT 0,
        outcomes bigint NOT NULL DEFAULT 0,
        files bigint NOT NULL DEFAULT 0,
        snapshots bigint NOT NULL DEFAULT 0,
        late bigint NOT NULL DEFAULT 0,
        finished_at timestamptz
    )
    """,
    "CREATE INDEX ON erasure (entity_hash)",
    "CREATE INDEX ON erasure (requested_at) WHERE state = 'running'",
    # What a running erasure took out already: snapshots are searched for it.
    """
    CREATE TABLE erased (
        erasure uuid NOT NULL,
        inference_id text NOT NULL,
        endpoint text NOT NULL,
        unit text NOT NULL,
        PRIMARY KEY (erasure, inference_id)
    )
    """,
    """
    CREATE TABLE snapshot (
        digest text PRIMARY KEY,
        unit text NOT NULL,
        endpoint text NOT NULL,
        model text NOT NULL,
        rows bigint NOT NULL,
        labelled bigint NOT NULL,
        made_at timestamptz NOT NULL DEFAULT now(),
        replaced_by text,
        removed_at timestamptz
    )
    """,
    "CREATE INDEX ON snapshot (endpoint) WHERE removed_at IS NULL",
    *(
        f"SELECT public.fairlead_secure('recorder.{table}')"
        for table in ("segment", "payload", "erasure", "erased", "snapshot")
    ),
)


def upgrade() -> None:
    """Statement by statement."""
    for statement in _STATEMENTS:
        op.execute(statement)
