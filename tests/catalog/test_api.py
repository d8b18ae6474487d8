"""The catalog over HTTP: real PostgreSQL, real sandbox, real tokens."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from services.catalog.settings import CatalogSettings
from services.kit.service import Parts

from . import models
from .conftest import Client

USE_CASE = {"use_case": "credit-limits", "title": "Limits", "owner": "Risk", "risk_tier": 3, "protected": ["SEX"]}


def small(**said: Any) -> bytes:
    return models.package(models.onnx_bytes(models.onnx_model()), columns=models.COLUMNS, **said)


async def upload(client: httpx.AsyncClient, data: bytes, **fields: str) -> httpx.Response:
    return await client.post("/v1/models", files={"package": ("model.zip", data)}, data=fields)


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json" and len(answer.content) <= 2048
    return answer.json()


async def test_a_use_case_is_registered_once(as_: Client) -> None:
    client = as_("data-scientist")
    first = await client.post("/v1/use-cases", json=USE_CASE)
    assert first.status_code == 201 and first.json()["unit"] == "retail"
    assert (await client.post("/v1/use-cases", json=USE_CASE)).status_code == 200
    problem(await client.post("/v1/use-cases", json=USE_CASE | {"owner": "x"}), 409)
    assert (await client.get("/v1/use-cases/credit-limits")).json() == first.json()
    assert (await client.get("/v1/use-cases")).json() == {"items": [first.json()], "next": None}
    other = as_("other-unit")
    problem(await other.get("/v1/use-cases/credit-limits"), 404)
    assert (await other.get("/v1/use-cases")).json()["items"] == []


BAD_USE_CASES = [
    {"risk_tier": 5}, {"risk_tier": "3"}, {"risk_tier": True}, {"use_case": "Credit_Limits"}, {"title": ""},
    {"owner": None}, {"unit": "wealth"}, {"typo": 1}, {"kpi_targets": {"a": "b"}}, {"title": "x" * 300},
    {"sla": {"latency_p99_ms": "fast"}}, {"sla": {"latency_p99_ms": 0}}, {"sla": {"latency_p99_ms": 1e9}},
    {"sla": {"availability": 1.1}}, {"sla": {"availability": 0}}, {"sla": {"latency": 5}},
    {"protected": "SEX"}, {"purpose": "p" * 5000},
]  # fmt: skip


async def test_a_bad_use_case_is_refused_by_field_and_changes_nothing(as_: Client) -> None:
    client = as_("data-scientist")
    for bad in BAD_USE_CASES:
        told = problem(await client.post("/v1/use-cases", json=USE_CASE | bad), 403 if "unit" in bad else 422)
        assert "unit" in bad or next(iter(bad)) in told["field"], bad
    assert (await client.get("/v1/use-cases")).json()["items"] == []


async def test_a_small_model_is_registered_found_shown_downloaded_and_retired(as_: Client, parts: Parts) -> None:
    client = as_("data-scientist")
    data = small(tags=["tiny"], description="Says yes to big sums", metrics={"accuracy": 0.9})
    answer = await upload(client, data)
    made = answer.json()
    assert answer.status_code == 201 and answer.headers["location"] == "/v1/models/credit/versions/1"
    assert (made["model"], made["version"], made["state"], made["unit"]) == ("credit", 1, "registered", "retail")
    assert made["scan"]["verdict"] == "clean" and made["training"]["metrics"] == {"accuracy": 0.9}
    assert not made["executes_code"] and not made["retrainable"]

    again = await upload(client, data)
    assert again.status_code == 200 and again.json() == made

    at = "/v1/models/credit/versions/1"
    assert (await client.get(at)).json() == made
    package = await client.get(f"{at}/artifact")
    assert "sha256:" + hashlib.sha256(package.content).hexdigest() == made["digest"]
    assert set(zipfile.ZipFile(io.BytesIO(package.content)).namelist()) == {"fairlead.yaml", "model.onnx"}
    assert "# credit, version 1" in (await client.get(f"{at}/card")).text
    scan = (await client.get(f"{at}/scan")).json()
    assert [member["name"] for member in scan["members"]] == ["fairlead.yaml", "model.onnx"]
    assert (await client.get(f"{at}/environment")).json()["requirements"][0].startswith("onnxruntime==")
    assert (await client.get(f"{at}/lineage")).json()["nodes"][0]["id"] == "version:credit/1"
    found = (await client.get("/v1/models", params={"query": "big sums", "tag": "tiny", "state": "registered"})).json()
    assert [(item["model"], item["latest_version"]) for item in found["items"]] == [("credit", 1)]
    assert [each["version"] for each in (await client.get("/v1/models/credit")).json()["versions"]] == [1]

    retired = await client.post(f"{at}/retire", json={"reason": "too old"})
    assert retired.json()["state"] == "retired"
    problem(await client.post(f"{at}/retire", json={"reason": "again"}), 409)
    problem(await client.post(f"{at}/retire", json={"reason": ""}), 422)
    assert (await client.get("/v1/models", params={"state": "registered"})).json()["items"] == []


async def test_bare_files_become_packages_and_fields_say_the_rest(as_: Client) -> None:
    client = as_("data-scientist")
    told = problem(await upload(client, models.onnx_bytes(models.onnx_model())), 422)
    assert told["field"] == "name"
    answer = await upload(
        client,
        models.onnx_bytes(models.onnx_model()),
        name="bare",
        tags="a, b",
        columns='[{"name":"x"},{"name":"y"},{"name":"z"}]',
    )
    assert answer.status_code == 201, answer.text
    assert answer.json()["tags"] == ["a", "b"]
    assert [column["name"] for column in answer.json()["model_schema"]["columns"]] == ["x", "y", "z"]
    answer = await upload(client, models.skops_bytes(models.forest()), name="forest")
    assert answer.status_code == 201, answer.text
    assert answer.json()["executes_code"] and answer.json()["format"] == "sklearn"


async def test_a_tar_of_a_folder_gives_the_version_that_the_zip_gave(as_: Client) -> None:
    client = as_("data-scientist")
    data = small()
    first = (await upload(client, data)).json()
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive, zipfile.ZipFile(io.BytesIO(data)) as source:
        for name in source.namelist():
            info = tarfile.TarInfo(f"credit/{name}")
            info.size = len(source.read(name))
            archive.addfile(info, io.BytesIO(source.read(name)))
    again = await upload(client, made.getvalue())
    assert (again.status_code, again.json()) == (200, first)


async def test_what_is_not_clean_is_registered_and_visible_as_quarantined(as_: Client) -> None:
    client = as_("data-scientist")
    data = models.package(models.skops_bytes(models.untrusted()), format_="sklearn", columns=models.COLUMNS)
    answer = await upload(client, data)
    assert answer.status_code == 201 and answer.json()["state"] == "quarantined"
    assert "system" in answer.json()["scan"]["findings"][0]


BAD_UPLOADS: list[tuple[bytes, dict[str, str], int, str]] = [
    (b"\x80\x04\x95pickle", {"name": "credit"}, 422, "pickle"),
    (b"\x89HDF\r\n\x1a\n", {"name": "credit"}, 422, "Keras"),
    (b"", {"name": "credit"}, 422, "empty"),
    (b"PK\3\4 cut", {}, 422, "cut off"),
    (small(model="other.onnx"), {}, 422, "other.onnx is not in the package"),
    (small(format="sklearn"), {}, 422, "is onnx, the manifest says sklearn"),
    (small(files={"../evil": b""}), {}, 422, "leaves the archive's folder"),
    (small(), {"name": "Not_A_Name"}, 422, "name"),
    (small(), {"typo": "x"}, 422, "typo"),
    (small(), {"columns": "[{}]"}, 422, "columns.0.name"),
    (small(), {"unit": "wealth"}, 403, "wealth"),
    (small(recipe="recipe.py"), {}, 422, "recipe.py is not in the package"),
    (small(monitor={"rules": {"limit": {"must": "amount > 1.0"}}}), {}, 422, "the columns are: a, b, c"),
    (models.package(models.onnx_bytes(models.external_models()["initializer"])), {}, 422, "external data"),
    (models.onnx_bytes(models.onnx_model())[:60], {"name": "credit"}, 422, "not a valid ONNX"),
    (b"x" * 5_000_000, {"name": "credit"}, 413, "4194304"),
]  # fmt: skip


async def test_a_bad_upload_is_refused_by_name_and_changes_nothing(as_: Client, home: Path) -> None:
    client = as_("data-scientist")
    for data, fields, status, message in BAD_UPLOADS:
        told = problem(await upload(client, data, **fields), status)
        assert message in told["detail"], told
    assert (await client.get("/v1/models")).json()["items"] == []
    assert not list((home / "run" / "catalog").iterdir()), "nothing is left on disk"


async def test_who_may_not_is_told_and_who_is_nobody_too(as_: Client) -> None:
    problem(await upload(as_(""), small()), 401)
    problem(await upload(as_("application"), small()), 403)
    problem(await upload(as_("executive"), small()), 403)
    problem(await as_("application").get("/v1/models"), 403)
    told = problem(await upload(as_("admin"), small()), 422)
    assert told["field"] == "unit"


async def test_another_unit_sees_404_on_every_path(as_: Client) -> None:
    assert (await upload(as_("data-scientist"), small())).status_code == 201
    other = as_("other-unit")
    at = "/v1/models/credit/versions/1"
    for path in (
        "/v1/models/credit",
        at,
        *(f"{at}/{name}" for name in ("artifact", "card", "scan", "lineage", "environment")),
    ):
        problem(await other.get(path), 404)
    problem(await other.post(f"{at}/retire", json={"reason": "mine"}), 404)
    assert (await other.get("/v1/models", params={"query": "credit"})).json() == {"items": [], "next": None}
    problem(await upload(other, small()), 409)
    assert (await as_("executive").get("/v1/models/credit")).status_code == 200


BAD_PATHS = [
    "/v1/models/credit/versions/0", "/v1/models/credit/versions/x", f"/v1/models/credit/versions/{2**70}",
    "/v1/models/Credit", "/v1/models?limit=0", "/v1/models?limit=10000", "/v1/models?cursor=abc",
    "/v1/models?state=odd", "/v1/models?tag=%00", "/v1/models?query=%00", "/v1/use-cases?cursor=WzEsMl0",
]  # fmt: skip


async def test_bad_paths_and_parameters_get_a_clear_422(as_: Client) -> None:
    client = as_("engineer")
    for path in BAD_PATHS:
        problem(await client.get(path), 422)


async def test_lists_are_paged(as_: Client) -> None:
    client = as_("data-scientist")
    for name in ("a", "b", "c"):
        assert (await client.post("/v1/use-cases", json=USE_CASE | {"use_case": name})).status_code == 201
    first = (await client.get("/v1/use-cases", params={"limit": 2})).json()
    second = (await client.get("/v1/use-cases", params={"limit": 2, "cursor": first["next"]})).json()
    assert [item["use_case"] for item in first["items"] + second["items"]] == ["a", "b", "c"]
    assert second["next"] is None


async def test_the_versions_of_a_model_are_paged_the_newest_first(as_: Client) -> None:
    client = as_("data-scientist")
    for number in range(1, 4):
        assert (await upload(client, small(tags=[f"n{number}"]))).json()["version"] == number
    first = (await client.get("/v1/models/credit", params={"limit": 2})).json()
    assert [each["version"] for each in first["versions"]] == [3, 2]
    second = (await client.get("/v1/models/credit", params={"limit": 2, "cursor": first["next"]})).json()
    assert ([each["version"] for each in second["versions"]], second["next"]) == ([1], None)
    assert (second["latest_version"], second["tags"]) == (3, ["n3"]), "of the model, not of the page"
    problem(await client.get("/v1/models/credit", params={"cursor": "abc"}), 422)


async def test_a_package_that_is_not_there_is_told_before_the_download_begins(
    as_: Client, settings: CatalogSettings
) -> None:
    client = as_("data-scientist")
    assert (await upload(client, small())).status_code == 201
    objects = settings.home / "objects"
    objects.rename(settings.home / "elsewhere")
    problem(await client.get("/v1/models/credit/versions/1/artifact"), 404)
    (settings.home / "elsewhere").rename(objects)
    assert (await client.get("/v1/models/credit/versions/1/artifact")).status_code == 200


async def test_an_altered_package_is_not_handed_out_and_a_person_hears_of_it(
    as_: Client, settings: CatalogSettings, parts: Parts
) -> None:
    client, at = as_("data-scientist"), "/v1/models/credit/versions/1"
    digest = (await upload(client, small())).json()["digest"].removeprefix("sha256:")
    stored = settings.home / "objects" / "sha256" / digest[:2] / digest
    registered = stored.read_bytes()
    stored.write_bytes(b"\0\0\0\0" + registered[4:])
    assert "altered" in problem(await client.get(f"{at}/artifact"), 500)["detail"]
    assert parts.db is not None
    async with parts.db.chassis() as session:
        said = [str(each) for each in await session.scalars(text("SELECT value FROM outbox"))]
    assert any("package-altered" in each and "critical" in each for each in said), "the alert"
    assert any('"package.altered"' in each for each in said), "the audit row"
    stored.write_bytes(registered)
    assert (await client.get(f"{at}/artifact")).content == registered


async def test_a_unit_that_is_no_name_is_refused_whatever_the_token_sees(as_: Client) -> None:
    for unit in ("retail,wealth", "", "*", "Retail", "x" * 64):
        for who in ("admin", "data-scientist"):
            told = problem(await upload(as_(who), small(), unit=unit), 422)
            assert told["field"] == "unit", (who, unit)
    assert (await as_("executive").get("/v1/models")).json()["items"] == []


async def test_an_idempotency_key_of_an_upload_stands_for_its_bytes(as_: Client) -> None:
    client = as_("data-scientist")
    data, headers = small(description="one"), {"Idempotency-Key": "upload-1"}

    async def sent(data: bytes) -> httpx.Response:
        return await client.post("/v1/models", files={"package": ("model.zip", data)}, headers=headers)

    first, again = await sent(data), await sent(data)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true" and again.json() == first.json()
    other = data[:-1] + bytes([data[-1] ^ 1])
    assert len(other) == len(data)
    problem(await sent(other), 409)


async def test_an_idempotency_key_gives_the_first_answer_again(as_: Client) -> None:
    client = as_("data-scientist")
    answers = [await client.post("/v1/use-cases", json=USE_CASE, headers={"Idempotency-Key": "k1"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[1].headers["idempotency-replayed"] == "true" and answers[0].json() == answers[1].json()
