"""What an operator can set for a scorer host."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from services.kit.settings import Settings


class ScorerSettings(Settings):
    """Every knob, as `FAIRLEAD_<NAME>`."""

    workers: int = Field(default=1, ge=1, le=64)
    """Worker processes that answer HTTP on one inherited socket; each is a slot with its own spool."""
    grpc_port: int = Field(default=0, ge=0, le=65535)
    """Where V2 is answered over gRPC, by a process of its own; 0: nowhere."""
    replica: str = ""
    """This host's name in `replica.reported`; empty: kept in the home, made at the first start."""

    inline_ms: float = 0.5
    """A model call that takes less than this runs on the event loop: handing it to a thread would cost more."""
    batch_rows: int = 4096
    """The most rows that requests queued behind a busy model are joined into."""
    queue_requests: int = 512
    """Requests that may wait for one busy model; beyond, 429."""
    queue_rows: int = 200_000
    request_s: float = Field(default=60.0, gt=0)
    """How long a request waits for its model at most; then 504. A caller may say less."""

    spool_bytes: int = 4 * 1024**3
    """The bound of the host's spool, shared by its slots; beyond, `spool_full` says what happens."""
    spool_full: Literal["refuse", "drop"] = "refuse"
    """`refuse`: 503. `drop`: answer without a log record, counted: the exception to the promise of a complete log."""
    spool_segment_bytes: int = 64 * 1024**2
    fsync: Literal["none", "interval", "always"] = "interval"
    """Against power loss; a killed process loses nothing with any of them. See the README."""
    fsync_interval_ms: int = 100

    package_bytes: int = 2 * 1024**3
    """The largest model file that is taken out of a package."""
    package_cache_bytes: int = 4 * 1024**3
    """Packages of versions that are no longer served stay up to this, for a quick way back; the oldest go first."""
    sandbox_deadline_s: float = 10.0
    """How long one call of a model may take."""
    sandbox_load_s: float = 120.0
    """How long a sandboxed model may take to be opened, its libraries imported."""
    sandbox_memory_mb: int = 1024
    explanations: int = Field(default=2, ge=1)
    """Explanations made at a time; beyond, 429."""
    explanations_each: int = Field(default=1, ge=1)
    """Of them one caller's."""
    explained_kept: int = Field(default=3, ge=0)
    """Sandboxed models that stay open after an explanation, for the next one; only of registered versions."""
    explained_kept_mb: int = Field(default=1024, ge=0)
    """What they may take together."""
    explained_kept_s: float = Field(default=300.0, gt=0)
    """How long one stays that nobody asks."""
    attribution_cpu: float = Field(default=0.1, gt=0, le=1)
    """The part of one processor that explaining samples of decisions for the monitor may take on this host."""
    attribution_s: float = Field(default=30.0, gt=0, le=600)
    """Seconds of work that one of these samples may take, that of the reference rows included and opening the model
    not; beyond, the version is too slow to be asked."""
    scorer_memory_mb: int = Field(default=0, ge=0)
    """What the models of one process may take, their sandboxes included: beyond, the longest unasked ones are closed,
    and loaded again when they are asked. 0: all models stay loaded."""
    cold_load_s: float = Field(default=10.0, gt=0)
    """How long a request waits for a model that must be loaded first; then 503, and loading goes on."""
    usage_s: float = Field(default=60.0, gt=0)
    """How often a host says `usage.reported`."""
    batch_uploads: int = Field(default=8, ge=1)
    """Files of batches taken at a time, from the first byte until they are checked and kept; beyond, 429."""
    batch_uploads_each: int = Field(default=2, ge=1)
    """Of them one caller's."""
    batch_processes: int = Field(default=0, ge=0, le=256)
    """Processes that score batches beside one another; 1: the batches' own process; 0: half of the cores."""
    batch_turn_s: float = Field(default=60.0, gt=0)
    """How long a batch is worked at while others wait; then it is their turn."""
    ray: str = ""
    """The address of a Ray cluster that scores batches such as `head:6379`; empty: this machine."""
    kserve_wait_hours: float = Field(default=24.0, gt=0, le=168)
    """How long one half of an inference that KServe logged waits for the other one."""
    kserve_waiting: int = Field(default=100_000, ge=1)
    """Halves of one endpoint that may wait; beyond, 429."""
    kserve_waiting_mb: int = Field(default=4_096, ge=1)
    """MiB of one endpoint's halves that may wait: a half may be of 4 MiB; beyond, 429."""
    import_units: frozenset[str] = frozenset({"retail"})
    """Business units whose applications Kafka lets write `inference.imported`: its records are for their endpoints."""

    @property
    def slot_bytes(self) -> int:
        """The bound of one process's part of the spool."""
        return self.spool_bytes // len(self.slots)

    @property
    def slots(self) -> list[str]:
        """The processes that must serve a state before this host is ready with it."""
        return [*(f"worker-{k}" for k in range(self.workers)), *(["rpc"] if self.grpc_port else [])]

    @property
    def run_folder(self) -> Path:
        """What the processes of this host tell one another; of no use to another host."""
        return self.home / "run" / "scorer"

    @property
    def batches_port_path(self) -> Path:
        """Where the batches' process says which loopback port it listens on."""
        return self.run_folder / "batches.port"

    @property
    def spool_folder(self) -> Path:
        """The log that is not in Kafka yet: a folder for each slot."""
        return self.home / "spool"

    @property
    def arms_path(self) -> Path:
        """What followed from the decisions of bandits' arms, as the agent counted it."""
        return self.run_folder / "arms.json"

    @property
    def desired_path(self) -> Path:
        """The desired state of all endpoints, as the agent verified it."""
        return self.run_folder / "desired.json"
