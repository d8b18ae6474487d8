"""A host installs what a model stands on before anybody is told to load it."""

from pathlib import Path

import pytest

from services.kit.environments import Environments
from services.kit.errors import Invalid, Unavailable
from services.kit.testing import eventually, running
from services.scorer.libraries import Libraries
from services.scorer.packages import Packages
from services.scorer.settings import ScorerSettings
from tests.kit.test_environments import ONE

from .making import package
from .test_packages import kept


async def there(libraries: Libraries, lock: bytes) -> bool:
    try:
        await libraries.require(lock)
    except Unavailable:
        return False
    return True


async def test_libraries_are_waited_for_once_and_a_lock_that_cannot_be_installed_says_so(tmp_path: Path) -> None:
    settings = ScorerSettings(home=tmp_path)
    libraries = Libraries(settings, Packages(tmp_path / "run", 1 << 20))
    await libraries.require(None)
    with pytest.raises(Unavailable, match="being installed"):
        await libraries.require(ONE)
    assert await eventually(lambda: there(libraries, ONE), within=30)
    assert Environments.of(settings).there(ONE) is not None
    forged = ONE.replace(b"8abb", b"9abb")
    with pytest.raises(Invalid):
        await eventually(lambda: there(libraries, forged), within=30)


async def test_a_package_that_was_lost_or_damaged_ends_nobody_and_what_the_others_stand_on_stays(
    tmp_path: Path,
) -> None:
    settings = ScorerSettings(home=tmp_path)
    packages = Packages(settings.run_folder, 1 << 20)
    lost, empty = "sha256:" + "0" * 64, "sha256:" + "1" * 64
    locked = package(b"model", requirements="requirements.lock", files={"requirements.lock": ONE})
    whole = kept(packages, locked)
    packages.path(empty).write_bytes(b"")
    place = Environments.of(settings).path(ONE).parent
    place.mkdir(parents=True)
    async with running(Libraries(settings, packages).keep(lambda: (lost, empty, whole))):
        await eventually((place / "used").exists)
