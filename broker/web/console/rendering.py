"""Pages from templates. Whatever an install or a caller is called, it is text: the templates escape it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from broker.web.console.overview import words

# No script, no frame, no form to elsewhere, nothing from elsewhere; and no copy in any cache.
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "cache-control": "no-store",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
STYLES: Final = "text/css; charset=utf-8"
_UNITS: Final = (
    ("d", timedelta(days=1)),
    ("h", timedelta(hours=1)),
    ("min", timedelta(minutes=1)),
    ("s", timedelta(seconds=1)),
)
# Two of a unit say more than one of the next: 90 minutes, not 1 hour.
_ENOUGH: Final = 2


class Pages:
    """The templates of this package."""

    def __init__(self, path: str) -> None:
        """`path`: where the console is; links begin with it."""
        self._templates = Environment(
            loader=PackageLoader(__package__),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals["path"] = path
        self._templates.filters |= {
            "moment": moment,
            "relative": relative,
            "span": length,
            "words": words,
        }
        self._styles = self._source("console.css")

    def page(
        self,
        template: str,
        status: int = HTTPStatus.OK,
        headers: Mapping[str, str] | None = None,
        **facts: Any,
    ) -> Response:
        """The page, as an answer."""
        text = self._templates.get_template(template).render(facts)
        return HTMLResponse(text, status, {**HEADERS, **(headers or {})})

    def styles(self) -> Response:
        """The one style sheet."""
        return Response(self._styles, headers={**HEADERS, "content-type": STYLES})

    def _source(self, name: str) -> str:
        loader = self._templates.loader
        if loader is None:
            raise ValueError("there are no templates")
        return loader.get_source(self._templates, name)[0]


def moment(when: datetime) -> str:
    """To the second, UTC."""
    return f"{when:%Y-%m-%d %H:%M:%S} UTC"


def length(span: timedelta) -> str:
    """In the largest unit of which there are a few."""
    for unit, size in _UNITS:
        if span >= size * _ENOUGH:
            return f"{span // size} {unit}"
    return f"{max(span, timedelta(0)).total_seconds():.0f} s"


def relative(when: datetime, now: datetime) -> str:
    """As seen from `now`."""
    return f"in {length(when - now)}" if when > now else f"{length(now - when)} ago"
