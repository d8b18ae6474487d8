"""Run the deployer."""

from services.kit.service import run

from .app import build
from .settings import DeployerSettings

run(build, DeployerSettings)
