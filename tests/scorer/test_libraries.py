"""A host installs what a model stands on before anybody is told to load it."""

from pathlib import Path

import pytest

from services.kit.environments import Environments
from services.kit.errors import Invalid, Unavailable
from services.kit.testing import eventually
from services.scorer.libraries import Libraries
from services.scorer.settings import ScorerSettings
from tests.kit.test_environments import ONE


async def there(libraries: Libraries, lock: bytes) -> bool:
    try:
        await libraries.require(lock)
    except Unavailable:
        return False
    return True


async def test_libraries_are_waited_for_once_and_a_lock_that_cannot_be_installed_says_so(tmp_path: Path) -> None:
    settings = ScorerSettings(home=tmp_path)
    libraries = Libraries(settings, list)
    await libraries.require(None)
    with pytest.raises(Unavailable, match="being installed"):
        await libraries.require(ONE)
    assert await eventually(lambda: there(libraries, ONE), within=30)
    assert Environments.of(settings).there(ONE) is not None
    forged = ONE.replace(b"8abb", b"9abb")
    with pytest.raises(Invalid):
        await eventually(lambda: there(libraries, forged), within=30)
