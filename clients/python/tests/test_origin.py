"""Where a token may go."""

import pytest

from tokenbroker.client.origin import ENVOY, Origin


@pytest.mark.parametrize(
    "url",
    [
        "https://api.envoy.com",
        "https://api.envoy.com:443/api/v3",
        "HTTPS://API.envoy.com/?a=b",
        "https://u:p@api.envoy.com/",
    ],
)
def test_same_origin(url: str) -> None:
    """However it is written."""
    assert Origin.of(url) == Origin.configured(ENVOY)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.envoy.com/",
        "https://api.envoy.com:8443/",
        "https://api.envoy.com.example/",
        "https://api.envoy.com@example/",
        "https://example/api.envoy.com",
        "https://envoy.com/",
        "//api.envoy.com/",
        "https://api.envoy.com:no-port/",
        "",
    ],
)
def test_other_origin(url: str) -> None:
    """A token that is sent elsewhere is given away."""
    assert Origin.of(url) != Origin.configured(ENVOY)


@pytest.mark.parametrize("url", ["api.envoy.com", "ftp://api.envoy.com", "https://"])
def test_what_is_no_origin_is_refused(url: str) -> None:
    """At the start: else no request would ever get a token, and nobody would know why."""
    with pytest.raises(ValueError, match="no origin"):
        Origin.configured(url)
