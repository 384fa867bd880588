"""Apps: which app a caller means."""

import pytest

from broker.domain.apps import Apps
from broker.domain.errors import InstallNotFound, InvalidField
from tests.fakes.samples import APP, OTHER_APP


def test_only_app_needs_no_name() -> None:
    """With a single app callers may leave plugin_id out."""
    apps = Apps([APP])
    assert apps.resolve("") is APP
    assert apps.resolve(APP.plugin_id) is APP
    assert apps.default_plugin_id == APP.plugin_id


def test_one_of_several_apps_needs_its_name() -> None:
    """A guess could hand out another app's token."""
    apps = Apps([APP, OTHER_APP])
    assert apps.default_plugin_id == ""
    assert apps.resolve(OTHER_APP.plugin_id) is OTHER_APP
    with pytest.raises(InvalidField, match="plugin_id"):
        apps.resolve("")


@pytest.mark.parametrize("apps", [Apps([APP]), Apps([APP, OTHER_APP])])
def test_unknown_app_has_no_installs(apps: Apps) -> None:
    """P6: an unknown app looks like an unknown install."""
    with pytest.raises(InstallNotFound):
        apps.resolve("7777")


def test_broker_without_apps_is_refused() -> None:
    """It could do nothing."""
    with pytest.raises(ValueError, match="at least one app"):
        Apps([])


def test_app_does_not_show_its_secret() -> None:
    """Apps are printed with the settings (P5)."""
    assert APP.client_secret.reveal() not in repr(APP)
