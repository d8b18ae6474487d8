"""The embedded issuer's public face: OpenID discovery and its keys. An outside issuer has its own."""

from typing import Any

import orjson
from fastapi import APIRouter

from services.kit.errors import NotFound
from services.kit.settings import Settings
from services.kit.tokens import ALGORITHM, ISSUER


def router(settings: Settings) -> APIRouter:
    """The embedded issuer's public documents, open to everybody."""
    routes = APIRouter(prefix="/.well-known", tags=["identity"])

    @routes.get("/openid-configuration")
    async def discovery() -> dict[str, Any]:
        _embedded(settings)
        return {
            "issuer": ISSUER,
            "jwks_uri": f"{settings.url('governor')}/.well-known/jwks.json",
            "id_token_signing_alg_values_supported": [ALGORITHM, "EdDSA"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "claims_supported": ["iss", "aud", "sub", "exp", "iat", "jti", "kind", "roles", "units"],
        }

    @routes.get("/jwks.json")
    async def keys() -> dict[str, Any]:
        _embedded(settings)
        jwks = orjson.loads((settings.keys / "issuer.jwks.json").read_bytes())
        return {"keys": [{name: key[name] for name in key if name != "d"} for key in jwks["keys"]]}

    return routes


def _embedded(settings: Settings) -> None:
    if settings.issuer:
        raise NotFound(f"tokens come from {settings.issuer}")
