"""Does the work of a job: rows, recipe and models meet in sandboxes, and what comes out is compared."""

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contracts import ModelRegistered
from services.kit.environments import Environments
from services.kit.errors import Invalid, NotFound
from services.kit.models import KINDS
from services.kit.models.sandboxed import SandboxedModel
from services.kit.models.wire import WireError
from services.kit.objects import Objects
from services.kit.sandbox import SandboxError, SandboxUnavailable, run_sandboxed
from services.kit.signing import digest_of

from .answers import CannotTrain, asked, opening, read_answers, refuse_unknown
from .domain import (
    Answers,
    Comparison,
    Incomparable,
    Job,
    Recorded,
    Replayed,
    Reproduced,
    Retrained,
    Verdict,
    compare,
    judge,
    measure,
    replayed,
    reproduced,
)
from .gateway import NoSnapshot, Recorder
from .packages import BadPackage, Package, pack, plain_file, require, unpack
from .settings import RetrainerSettings

_ENTRIES = "services.retrainer.sandboxed"
_ROWS = ("pyarrow.parquet", "pyarrow.compute")


@dataclass(frozen=True)
class Split:
    """The rows of one snapshot, on disk."""

    rows: Path
    """What the recipe learns from."""
    inputs: Path
    """What the models are asked about."""
    labels: np.ndarray
    trained: int

    @property
    def params(self) -> Path:
        """What the requests of these rows set of their model, where any did."""
        return self.inputs.with_name("params.json")


class Workshop:
    """Trains and compares; knows no job table and tells nobody."""

    def __init__(self, settings: RetrainerSettings, objects: Objects, recorder: Recorder) -> None:
        self._settings = settings
        self._objects = objects
        self._recorder = recorder
        self._environments = Environments.of(settings)

    async def retrain(self, job: Job, model: ModelRegistered) -> Retrained:
        """Train a candidate on what was recorded and compare it with the champion. Raises Unavailable."""
        assert job.endpoint is not None
        digest = None
        try:
            async with self._folder() as at:
                package = await self._open(model, at)
                snapshot = await self._recorder.snapshot(job.endpoint, job.model, job.since)
                digest = snapshot.digest
                split = await self._split(snapshot.digest, str(job.id), model, package, at)
                return await self._contest(model, package, split, digest, str(job.id), at)
        except NoSnapshot as error:
            needed = f"a retraining needs {self._settings.retraining_rows} labelled rows"
            return Retrained(Verdict("failed", f"{error}; {needed}"))
        except (CannotTrain, BadPackage, Incomparable) as error:
            return Retrained(Verdict("failed", str(error)), snapshot_digest=digest)

    async def reproduce(self, model: ModelRegistered) -> Reproduced:
        """Train a version once more from the rows that it was made of. Raises Unavailable."""
        known, seed = model.training, model.training.retraining_id
        assert known.data_digest is not None and seed is not None
        try:
            async with self._folder() as at:
                package = await self._open(model, at)
                split = await self._split(known.data_digest, seed, model, package, at)
                made = await self._train(package, split, at)
                files = {name: _digests(package, made, name) for name in package.made_by_recipe}
                await asyncio.to_thread(pack, package, made, {}, at / "trial.zip")
                answers = await self._answers(model, package, made, at / "trial.zip", split, "the reproduced model")
                metrics = measure(split.labels, answers, regression=_is_regression(model))
                return reproduced(files, known.metrics, metrics)
        except (CannotTrain, BadPackage, Incomparable) as error:
            return Reproduced("failed", str(error), {}, known.metrics, {})

    async def replay(self, job: Job, model: ModelRegistered) -> Replayed:
        """Ask a version about what was recorded behind an endpoint, and compare it with what was answered then. Raises
        Unavailable."""
        assert job.endpoint is not None
        try:
            async with self._folder() as at:
                package = await self._unpacked(model, at)
                snapshot = await self._recorder.snapshot(job.endpoint, job.wish["of"], job.since)
                recorded, split, by_version = await self._taken(snapshot.digest, job, model, at)
                answers = await self._answers(
                    model, package, package.folder, at / "package.zip", split, "the challenger"
                )  # fmt: skip
                return await asyncio.to_thread(
                    replayed, recorded, answers, by_version, snapshot.digest, regression=_is_regression(model),
                    confidence=self._settings.retraining_confidence, seed=str(job.id),
                )  # fmt: skip
        except (NoSnapshot, CannotTrain, BadPackage, Incomparable) as error:
            return Replayed("failed", str(error))

    async def _taken(
        self, snapshot: str, job: Job, model: ModelRegistered, at: Path
    ) -> tuple[Recorded, Split, dict[str, int]]:
        """The rows that a replay is about."""
        await self._fetch(snapshot, at / "snapshot.parquet", "the recorded rows")
        out = at / "rows"
        out.mkdir()
        asked = {
            "snapshot": str(at / "snapshot.parquet"), "out": str(out), "columns": _columns(model),
            "inputs": [spec.model_dump() for spec in model.model_schema.inputs], "until": job.wish["until"],
            "against": job.wish["against"], "most": self._settings.replay_rows,
        }  # fmt: skip
        told = json.loads(
            await self._sandboxed("replaying:replayer", asked, "the recorded rows", preload=_ROWS,
                                  readable=[at / "snapshot.parquet"], writable=[out],
                                  deadline_s=self._settings.scoring_s)
        )  # fmt: skip
        if "refused" in told:
            raise CannotTrain(told["refused"])
        parts = [await asyncio.to_thread(np.load, out / f"{name}.npy") for name in ("predictions", "scores", "labels")]
        return Recorded(*parts), Split(out / "none", out / "held.npz", parts[2], 0), told["by_version"]

    async def _contest(
        self, model: ModelRegistered, package: Package, split: Split, snapshot: str, seed: str, at: Path
    ) -> Retrained:
        made = await self._train(package, split, at)
        champion = await self._answers(model, package, package.folder, at / "package.zip", split, "the champion")
        await asyncio.to_thread(pack, package, made, {}, at / "trial.zip")
        candidate = await self._answers(model, package, made, at / "trial.zip", split, "the candidate")
        comparison = await asyncio.to_thread(self._compare, model, split, champion, candidate, seed)
        verdict = judge(comparison)
        digest = None
        if verdict.outcome == "candidate_won":
            await asyncio.to_thread(pack, package, made, comparison.candidate, at / "candidate.zip")
            digest = await self._objects.put_file(at / "candidate.zip")
        return Retrained(verdict, digest, snapshot, split.trained, len(split.labels), comparison)

    def _compare(
        self, model: ModelRegistered, split: Split, champion: Answers, candidate: Answers, seed: str
    ) -> Comparison:
        return compare(
            split.labels, champion, candidate, regression=_is_regression(model),
            confidence=self._settings.retraining_confidence, seed=seed,
        )  # fmt: skip

    @asynccontextmanager
    async def _folder(self) -> AsyncGenerator[Path]:
        run = self._settings.home.absolute() / "run"
        run.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="retraining-", dir=run) as folder:
            yield Path(folder)

    async def _unpacked(self, model: ModelRegistered, at: Path) -> Package:
        await self._fetch(model.digest, at / "package.zip", "the package")
        return await asyncio.to_thread(unpack, at / "package.zip", at / "package")

    async def _open(self, model: ModelRegistered, at: Path) -> Package:
        package = await self._unpacked(model, at)
        if package.recipe not in package.names:
            raise CannotTrain(f"{model.model} version {model.version} has no recipe to train with")
        if package.label is None:
            raise CannotTrain("fairlead.yaml names no label to learn")
        return package

    async def _fetch(self, digest: str, to: Path, what: str) -> None:
        try:
            await self._objects.fetch(digest, to)
        except (NotFound, Invalid) as error:
            raise CannotTrain(f"{what} cannot be read: {error}") from error

    async def _split(self, snapshot: str, seed: str, model: ModelRegistered, package: Package, at: Path) -> Split:
        await self._fetch(snapshot, at / "snapshot.parquet", "the recorded rows")
        out = at / "rows"
        out.mkdir()
        job = {
            "snapshot": str(at / "snapshot.parquet"), "out": str(out), "label": package.label, "seed": seed,
            "columns": _columns(model), "inputs": [spec.model_dump() for spec in model.model_schema.inputs],
            "needed": self._settings.retraining_rows, "share": self._settings.retraining_held_out,
        }  # fmt: skip
        told = json.loads(
            await self._sandboxed("rows:splitter", job, "the recorded rows", preload=_ROWS,
                                  readable=[at / "snapshot.parquet"], writable=[out],
                                  deadline_s=self._settings.scoring_s)
        )  # fmt: skip
        if "refused" in told:
            raise CannotTrain(told["refused"])
        labels = await asyncio.to_thread(np.load, out / "labels.npy")
        return Split(out / "train.parquet", out / "held.npz", labels, told["trained"])

    async def _train(self, package: Package, split: Split, at: Path) -> Path:
        """The folder that the recipe wrote into."""
        made, recipe = at / "made", package.folder / str(package.recipe)
        made.mkdir()
        job = {"recipe": str(recipe), "rows": str(split.rows), "out": str(made)}
        await self._sandboxed(
            "training:recipe", job, "the recipe", preload=_ROWS, packages=await self._libraries(package),
            readable=[recipe, split.rows], writable=[made],
            deadline_s=self._settings.retraining_s, memory_mb=self._settings.retraining_mb,
        )  # fmt: skip
        await asyncio.to_thread(require, made, package.made_by_recipe)
        return made

    async def _libraries(self, package: Package) -> Path | None:
        """What a package's model runs on, and its recipe with it. Raises CannotTrain, Unavailable."""
        try:
            return await self._environments.built(package.lock) if package.lock else None
        except Invalid as error:
            raise CannotTrain(f"the package's libraries cannot be installed: {error.message}") from error

    async def _answers(
        self, model: ModelRegistered, package: Package, folder: Path, file: Path, split: Split, what: str
    ) -> Answers:
        """What a model says of the held-out rows: its files lie in `folder`, and packed in `file`."""
        await asyncio.to_thread(refuse_unknown, model.model_schema, split.params, what)
        if model.format == "onnx":
            return await self._onnx_answers(model, folder / package.model, split, what)
        told = opening(model, package, file if KINDS[model.format].is_code else folder / package.model)
        sandboxed = SandboxedModel(
            told, packages=await self._libraries(package), memory_mb=self._settings.scoring_mb,
            deadline_s=self._settings.scoring_s, load_s=self._settings.scoring_s, name=what, once=True,
        )  # fmt: skip
        try:
            await sandboxed.start()
            return await asked(sandboxed, model.model_schema, split.inputs, split.params)
        except (SandboxError, SandboxUnavailable, WireError) as error:
            raise CannotTrain(f"{what} failed in the sandbox: {str(error)[-800:]}") from error
        finally:
            await sandboxed.close()

    async def _onnx_answers(self, model: ModelRegistered, file: Path, split: Split, what: str) -> Answers:
        schema = model.model_schema
        job = {
            "model": str(file), "held": str(split.inputs), "prediction": schema.prediction, "score": schema.score,
        }  # fmt: skip
        said = await self._sandboxed(
            "scoring:scorer", job, what, preload=("onnxruntime",), readable=[file, split.inputs],
            deadline_s=self._settings.scoring_s, memory_mb=self._settings.scoring_mb,
        )  # fmt: skip
        return await asyncio.to_thread(read_answers, said, what)

    async def _sandboxed(
        self,
        entry: str,
        job: dict[str, Any],
        what: str,
        *,
        preload: Sequence[str],
        packages: Path | None = None,
        readable: Sequence[Path],
        writable: Sequence[Path] = (),
        deadline_s: float,
        memory_mb: int = 2048,
    ) -> bytes:
        try:
            return await run_sandboxed(
                f"{_ENTRIES}.{entry}", json.dumps(job).encode(), preload=preload, packages=packages, readable=readable,
                writable=writable, deadline_s=deadline_s, memory_mb=memory_mb, name=what,
            )  # fmt: skip
        except (SandboxError, SandboxUnavailable) as error:
            raise CannotTrain(f"{what} failed in the sandbox: {str(error)[-800:]}") from error


def _columns(model: ModelRegistered) -> list[str]:
    schema = model.model_schema
    return [column.name for column in schema.columns] or [spec.name for spec in schema.inputs]


def _is_regression(model: ModelRegistered) -> bool:
    schema = model.model_schema
    datatype = next(spec.datatype for spec in schema.outputs if spec.name == schema.prediction)
    return schema.score is None and datatype in ("FP16", "FP32", "FP64")


def _digests(package: Package, made: Path, name: str) -> dict[str, str]:
    return {
        "registered": digest_of(plain_file(package.folder, name)),
        "reproduced": digest_of(plain_file(made, name)),
    }
