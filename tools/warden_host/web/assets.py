"""Files of other projects that pages use: fetched by npm or carried by the wheel, never copied."""

from functools import cache
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

_HERE = Path(__file__).resolve().parent
# In a wheel, and in a checkout after `make setup`.
_FOLDERS = (
    _HERE / "_assets" / "uplot",
    _HERE.parents[2] / "build" / "web" / "node_modules" / "uplot" / "dist",
)
_FILES = {
    "uplot.js": ("uPlot.esm.js", "text/javascript"),
    "uplot.css": ("uPlot.min.css", "text/css"),
}


@cache
def folder() -> Path | None:
    """Return where uPlot is; None where it is missing."""
    for one in _FOLDERS:
        if all((one / name).is_file() for name, _ in _FILES.values()):
            return one
    return None


def plots_there() -> bool:
    """Return whether pages can draw plots."""
    return folder() is not None


async def _serve(request: Request) -> Response:
    """Serve one of the files under a name that does not change with their version."""
    place, known = folder(), _FILES.get(request.path_params["name"])
    if place is None or known is None:
        raise HTTPException(404)
    return FileResponse(place / known[0], media_type=known[1])


ROUTE = Route("/assets/{name}", _serve)
