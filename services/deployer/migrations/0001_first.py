"""What the deployer knows of use cases and versions, what was asked, and what each endpoint shall look like."""

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    "CREATE TABLE use_case (use_case text PRIMARY KEY, unit text NOT NULL, protected jsonb NOT NULL)",
    """
    CREATE TABLE model_version (
        model text NOT NULL,
        version integer NOT NULL,
        unit text NOT NULL,
        retired boolean NOT NULL DEFAULT false,
        retraining_id text,
        registration jsonb NOT NULL,
        PRIMARY KEY (model, version)
    )
    """,
    "CREATE INDEX ON model_version (retraining_id) WHERE retraining_id IS NOT NULL",
    """
    CREATE TABLE deployment (
        id uuid PRIMARY KEY,
        endpoint text NOT NULL,
        use_case text NOT NULL,
        unit text NOT NULL,
        model text NOT NULL,
        version integer NOT NULL,
        digest text NOT NULL,
        strategy text NOT NULL,
        streaming boolean NOT NULL,
        requested_by text NOT NULL,
        retraining_id uuid,
        state text NOT NULL,
        reason text,
        approval_id uuid,
        "grant" jsonb,
        revision integer,
        requested_at timestamptz NOT NULL,
        changed_at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX ON deployment (endpoint, requested_at DESC)",
    "CREATE INDEX ON deployment (state)",
    # One retraining leads to one deployment, however often its events are heard.
    "CREATE UNIQUE INDEX ON deployment (retraining_id) WHERE retraining_id IS NOT NULL",
    """
    CREATE TABLE endpoint (
        endpoint text PRIMARY KEY,
        unit text NOT NULL,
        use_case text NOT NULL,
        revision integer NOT NULL,
        state text NOT NULL,
        streaming boolean NOT NULL,
        model text NOT NULL,
        version integer NOT NULL,
        deployment_id uuid NOT NULL REFERENCES deployment (id),
        desired jsonb NOT NULL,
        changed_at timestamptz NOT NULL
    )
    """,
    # One champion at a time: every version that served keeps its row, one of them is the champion.
    """
    CREATE TABLE serving (
        endpoint text NOT NULL,
        deployment_id uuid NOT NULL REFERENCES deployment (id),
        unit text NOT NULL,
        champion boolean NOT NULL,
        since timestamptz NOT NULL,
        PRIMARY KEY (endpoint, deployment_id)
    )
    """,
    "CREATE UNIQUE INDEX one_champion ON serving (endpoint) WHERE champion",
    """
    CREATE TABLE replica (
        endpoint text NOT NULL,
        replica text NOT NULL,
        unit text NOT NULL,
        revision integer NOT NULL,
        state text NOT NULL,
        reason text,
        reported_at timestamptz NOT NULL,
        PRIMARY KEY (endpoint, replica)
    )
    """,
    *(
        f"SELECT public.fairlead_secure('deployer.{table}')"
        for table in ("use_case", "model_version", "deployment", "endpoint", "serving", "replica")
    ),
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
