"""The files that pages load: our own and those of the npm packages, each by name, from our own address."""

from functools import cache
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

from services.kit.errors import NotFound

_OWN = Path(__file__).parent / "static"
_PACKAGES = {
    "htmx.js": "htmx.org/dist/htmx.min.js",
    "uplot.js": "uplot/dist/uPlot.iife.min.js",
    "uplot.css": "uplot/dist/uPlot.min.css",
    "inter.woff2": "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
    "mono.woff2": "@fontsource-variable/jetbrains-mono/files/jetbrains-mono-latin-wght-normal.woff2",
}
_STATIC = ("console.css", "console.js", "charts.js", "favicon.svg")
_KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}


class MissingAssets(Exception):
    """The npm packages are not installed; the message says how."""


class Assets:
    """Names and files; an address carries the file's hash, so that a browser keeps it until it changes."""

    def __init__(self, packages: Path) -> None:
        self._files = {name: packages / path for name, path in _PACKAGES.items()}
        self._files |= {name: _OWN / name for name in _STATIC}
        missing = [str(path) for path in self._files.values() if not path.is_file()]
        if missing:
            raise MissingAssets(f"{missing[0]} is not there: run `npm ci` in {packages.parent}")
        self.address = cache(self._address)

    def _address(self, name: str) -> str:
        return f"/assets/{name}?{sha256(self._files[name].read_bytes()).hexdigest()[:12]}"

    def router(self) -> APIRouter:
        """Serves the files; browsers keep them for a year, since another content has another address."""
        api = APIRouter(include_in_schema=False)

        @api.get("/assets/{name}")
        async def asset(name: str) -> FileResponse:
            if name not in self._files:
                raise NotFound("there is no such file")
            return FileResponse(self._files[name], headers=_KEPT)

        return api
