"""The chart, rendered."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from deploy import chart
from deploy.chart import EXAMPLES, Manifest

# The manifests that values make: an example's name, or "ten lines"; and more values on top, as YAML.
Rendered = Callable[..., list[Manifest]]
TEN_LINES = "ten lines"
ALL_VALUES = (TEN_LINES, *(path.stem for path in EXAMPLES))


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Renders the chart; skips without Helm, which CI must have."""
    try:
        chart.helm()
    except FileNotFoundError as missing:
        if os.environ.get("CI"):
            pytest.fail(f"{missing}; in CI no test may be skipped", pytrace=False)
        pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("values")
    (folder / f"{TEN_LINES}.yaml").write_text(chart.ten_lines(), encoding="utf-8")

    @cache
    def render(values: str = TEN_LINES, more: str = "") -> list[Manifest]:
        of_chart = chart.CHART / "ci" / f"{values}.yaml"
        files: list[Path] = [of_chart if of_chart.exists() else folder / f"{values}.yaml"]
        if more:
            files.append(folder / "more.yaml")
            files[-1].write_text(more, encoding="utf-8")
        return chart.render(*files)

    return render
