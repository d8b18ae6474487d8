"""The client finds the platform by arguments, by environment, or by the platform's home."""

import json
from pathlib import Path

import pytest

from fairlead import Misconfigured
from fairlead.where import find


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FAIRLEAD_HOME", "FAIRLEAD_URL", "FAIRLEAD_TOKEN", "FAIRLEAD_AS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "tokens" / "admin.jwt").write_text("admin-token\n")
    (tmp_path / "tokens" / "engineer.jwt").write_text("engineer-token\n")
    (tmp_path / "endpoints.json").write_text(json.dumps({"console": "http://127.0.0.1:8080"}))
    return tmp_path


def test_a_home_gives_the_address_and_the_administrators_token(home: Path) -> None:
    place = find(home=home)
    assert (place.url, place.bearer()) == ("http://127.0.0.1:8080", "admin-token")


def test_fairlead_as_names_another_person(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_HOME", str(home))
    monkeypatch.setenv("FAIRLEAD_AS", "engineer")
    assert find().bearer() == "engineer-token"


def test_a_renewed_token_is_read_anew(home: Path) -> None:
    place = find(home=home)
    place.bearer()
    (home / "tokens" / "admin.jwt").write_text("renewed")
    assert place.bearer() == "renewed"


def test_an_address_and_a_token_need_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_URL", "https://fairlead.example/")
    monkeypatch.setenv("FAIRLEAD_TOKEN", "t")
    place = find()
    assert (place.url, place.bearer()) == ("https://fairlead.example", "t")


def test_arguments_come_before_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRLEAD_URL", "http://elsewhere")
    assert find("http://here", home=home).url == "http://here"


def test_no_platform_says_how_to_start_or_name_one(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="make up"):
        find(home=tmp_path)


def test_an_unknown_person_is_named(home: Path) -> None:
    with pytest.raises(Misconfigured, match=r"nobody\.jwt"):
        find(home=home, acting_as="nobody").bearer()


def test_a_broken_address_list_is_named(home: Path) -> None:
    (home / "endpoints.json").write_text("{")
    with pytest.raises(Misconfigured, match=r"endpoints\.json"):
        find(home=home)


def test_a_token_is_not_told_by_the_places_repr(home: Path) -> None:
    assert "secret" not in repr(find("http://here", "secret", home))
