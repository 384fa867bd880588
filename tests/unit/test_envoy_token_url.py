"""Where the client secret may be sent."""

import pytest

from broker.domain.token_url import check_token_url


@pytest.mark.parametrize(
    "url",
    [
        "https://api.envoy.com/oauth2/token",
        "https://app.envoy.com:443/a/auth/v0/token?x=1",
        "http://127.0.0.1:8081/oauth2/token",
        "http://localhost/oauth2/token",
        "http://[::1]:8081/",
        "https://[2001:db8::1]/",
    ],
)
def test_https_and_this_machine_may_have_the_secret(url: str) -> None:
    """Both documented addresses, and the sandbox."""
    check_token_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.envoy.com/oauth2/token",
        "https://",
        "https:///oauth2/token",
        "http://api.envoy.com/oauth2/token",
        "http://localhost.evil.example/",
        "http://127.0.0.1.evil.example/",
        "http://2130706433/",
        "http://127.0.0.1\\@evil.example/",
        "http://localhost\t.evil.example/",
        "ftp://api.envoy.com/",
        "https://user:pass-word@api.envoy.com/",
        "https://api.envoy.com/#fragment",
        "https://api.envoy.com:pass-word/",
        "https://api.envoy.com:99999/",
        "https://[pass-word]/",
        "https://" + "a" * 64 + ".com/",
        "https://\u00e9nvoy.com/",
    ],
)
def test_f13_no_other_address_may_have_the_secret(url: str) -> None:
    """Plain HTTP over a network, a look-alike of this machine, or what two parsers read differently."""
    with pytest.raises(ValueError, match="must ") as caught:
        check_token_url(url)
    assert "pass-word" not in str(caught.value)
    assert caught.value.__context__ is None
