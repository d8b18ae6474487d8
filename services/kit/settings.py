"""Typed settings from the environment; every service extends `Settings`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts import Service

PORT_ORDER: tuple[Service, ...] = (
    "console", "catalog", "deployer", "scorer", "monitor", "governor", "retrainer", "recorder",
)  # fmt: skip


class Settings(BaseSettings):
    """What every service needs to know. `.env` files are not read: the launcher or the cluster sets these."""

    model_config = SettingsConfigDict(env_prefix="FAIRLEAD_", extra="ignore")

    home: Path = Path(".fairlead")
    port: int = Field(default=8080, ge=1, le=65500)
    host: str = "127.0.0.1"
    kafka_properties: Path = Path("/nonexistent")
    """Client properties of this service's own principal, as librdkafka and Java take them."""
    service_database: str = ""
    """The URL of this service's own role."""
    objects: str = ""
    """Object store URL; empty: a folder in the home."""
    issuer: str = ""
    """OIDC issuer; empty: the embedded one, whose keys are in the home."""
    allow_embedded_issuer: bool = False
    """Let the embedded issuer vouch for people though Kafka or PostgreSQL are elsewhere: for trials."""
    log_level: str = "INFO"
    max_body_bytes: int = 16 * 1024 * 1024

    def listen_port(self, service: Service) -> int:
        """Services follow `FAIRLEAD_PORT` in a fixed order, the console first."""
        return self.port + PORT_ORDER.index(service)

    def url(self, service: Service) -> str:
        return f"http://{self.host}:{self.listen_port(service)}"

    @property
    def objects_url(self) -> str:
        return self.objects or (self.home.absolute() / "objects").as_uri()

    @property
    def keys(self) -> Path:
        return self.home / "keys"
