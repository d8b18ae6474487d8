"""Models, grants and desired states for the scorer's tests: real bytes, real keys, real signatures."""

import io
import zipfile
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import numpy as np
import orjson
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from joserfc.jwk import KeySet
from onnx import ModelProto, TensorProto, helper, numpy_helper

from contracts import (
    Column,
    DeploymentChanged,
    Grant,
    ModelSchema,
    MonitorSettings,
    Signature,
    Statement,
    TensorSpec,
    Variant,
)
from services.kit.ids import now
from services.kit.signing import Signer, canonical, digest_of, key_id
from services.kit.tokens import key_of, mint
from services.scorer.settings import ScorerSettings

COLUMNS = ("age", "income", "debt")
NUMBERS = ModelSchema(
    inputs=(TensorSpec(name="X", datatype="FP32", shape=(-1, 3)),),
    outputs=(
        TensorSpec(name="label", datatype="INT64", shape=(-1,)),
        TensorSpec(name="probabilities", datatype="FP32", shape=(-1, 2)),
    ),
    columns=tuple(Column(name=name) for name in COLUMNS),
    prediction="label",
    score="probabilities",
)


@cache
def classifier(bias: float = 0.0) -> bytes:
    """A real classifier out of scikit-learn; `bias` moves its decision, so versions can be told apart."""
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.linear_model import LogisticRegression

    x = np.random.default_rng(7).normal(size=(400, 3)).astype(np.float32)
    model = LogisticRegression().fit(x, (x.sum(axis=1) > 0).astype(int))
    model.intercept_ -= bias
    made = convert_sklearn(
        model, initial_types=[("X", FloatTensorType([None, 3]))], options={id(model): {"zipmap": False}},
        target_opset=18,
    )  # fmt: skip
    return cast(ModelProto, made).SerializeToString()


def echo(datatype: str, shape: tuple[int | str, ...]) -> bytes:
    """A model whose output `y` is its input `x`, of any datatype."""
    kind = {"BOOL": "BOOL", "FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING"}.get(
        datatype, datatype
    )
    element = getattr(TensorProto, kind)
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "echo",
        [helper.make_tensor_value_info("x", element, shape)], [helper.make_tensor_value_info("y", element, shape)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


def wide(columns: int) -> bytes:
    """A model whose second output has so many columns for every row, behind the classifier's schema."""
    zeros = numpy_helper.from_array(np.zeros((3, columns), np.float32), "zeros")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["X", "zeros"], ["probabilities"]),
            helper.make_node("ReduceSum", ["X", "axis"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["label"], to=TensorProto.INT64),
        ],
        "wide",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, (None, 3))],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, (None,)),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, (None, columns)),
        ],
        [zeros, numpy_helper.from_array(np.array([1]), "axis")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def fragile() -> bytes:
    """A model behind the classifier's schema that fails over a first column beyond 4."""
    table = numpy_helper.from_array(np.arange(5, dtype=np.int64), "table")
    zeros = numpy_helper.from_array(np.zeros((3, 2), np.float32), "zeros")
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["X", "first"], ["column"], axis=1),
            helper.make_node("Cast", ["column"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["label"]),
            helper.make_node("MatMul", ["X", "zeros"], ["probabilities"]),
        ],
        "fragile",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, (None, 3))],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, (None,)),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, (None, 2)),
        ],
        [table, zeros, numpy_helper.from_array(np.array(0), "first")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def package(model: bytes, name: str = "model.onnx", files: Mapping[str, bytes] | None = None, **manifest: Any) -> bytes:
    """A package as the catalog makes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("fairlead.yaml", yaml.safe_dump({"name": "m", "format": "onnx", "model": name} | manifest))
        made.writestr(name, model)
        for each, data in (files or {}).items():
            made.writestr(each, data)
    return out.getvalue()


class House:
    """A home with keys and an object store, as the launcher makes it."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.home = home
        public = home / "keys" / "public"
        public.mkdir(parents=True)
        for owner in ("governor", "deployer"):
            key = Ed25519PrivateKey.generate()
            path = home / "keys" / f"{owner}.key"
            path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            (public / f"{key_id(owner, key.public_key())}.pem").write_bytes(pem)
        issuer = Ed25519PrivateKey.generate()
        self.issuer = home / "keys" / "issuer.key"
        self.issuer.write_bytes(issuer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        jwks = KeySet([key_of(self.issuer)]).as_dict(private=False)
        (home / "keys" / "issuer.jwks.json").write_bytes(orjson.dumps(jwks))
        self.settings = ScorerSettings(home=home, **settings)
        self.governor = Signer(home / "keys" / "governor.key", "governor")
        self.deployer = Signer(home / "keys" / "deployer.key", "deployer")

    def token(self, subject: str = "application", units: tuple[str, ...] = ("retail",), role: str = "") -> str:
        kind = "application" if subject == "application" else "person"
        return mint(self.issuer, subject, [role or subject], list(units), kind)

    def keep(self, data: bytes) -> str:
        """Put a package where the agent would have put it."""
        digest = digest_of(data)
        path = self.settings.run_folder / "packages" / f"{digest.removeprefix('sha256:')}.zip"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return digest

    def variant(
        self, endpoint: str, digest: str, version: int = 1, schema: ModelSchema = NUMBERS, **more: Any
    ) -> Variant:  # fmt: skip
        at = now()
        statement = Statement(
            approval_id=uuid4(), deployment_id=uuid4(), endpoint=endpoint, use_case="loans", model="credit",
            version=version, digest=digest, policy_version="1", evidence_digest=digest, requested_by="engineer",
            granted_by="compliance", granted_at=at, expires_at=at + timedelta(hours=1),
        )  # fmt: skip
        grant = Grant(statement=statement, signature=self.governor.sign(canonical(statement)))
        given: dict[str, Any] = {
            "name": "champion", "model": "credit", "version": version, "digest": digest, "format": "onnx",
            "model_schema": schema, "baseline_digest": None, "grant": grant,
        }  # fmt: skip
        return Variant(**(given | more))

    def change(
        self, endpoint: str, *variants: Variant, revision: int = 1, unit: str = "retail", **more: Any
    ) -> DeploymentChanged:
        """A signed desired state."""
        given: dict[str, Any] = {
            "endpoint": endpoint, "unit": unit, "use_case": "loans", "revision": revision, "state": "serving",
            "streaming": False, "variants": variants, "monitor": MonitorSettings(),
            "signature": Signature(key_id="", value=""),
        }  # fmt: skip
        unsigned = DeploymentChanged(**(given | more))
        signature = self.deployer.sign(canonical(unsigned, without=frozenset({"signature"})))
        return unsigned.model_copy(update={"signature": signature})

    def serving(self, endpoint: str, model: bytes, schema: ModelSchema = NUMBERS, **more: Any) -> DeploymentChanged:
        """The desired state of an endpoint with one version of this ONNX model, its package in place."""
        version, revision = more.pop("version", 1), more.pop("revision", 1)
        variant = self.variant(endpoint, self.keep(package(model)), version, schema)
        return self.change(endpoint, variant, revision=revision, **more)
