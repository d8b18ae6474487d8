"""The rules and the dashboard for who watches the platform with Prometheus and Grafana."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from deploy.embedded.home import ROOT
from services.kit.settings import PORT_ORDER, Settings

PROMETHEUS, GRAFANA = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana" / "fairlead.json"
BOARD: dict[str, Any] = orjson.loads(GRAFANA.read_bytes())


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool here (Debian's package prometheus has it)")
    return found


def run(*command: str, within: Path = PROMETHEUS) -> str:
    done = subprocess.run(command, cwd=within, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_configuration_and_its_rules(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "check", "config", "prometheus.yml")


def test_each_rule_fires_on_what_it_is_about_and_not_before(promtool: str) -> None:
    assert "SUCCESS" in run(promtool, "test", "rules", "alerts.test.yml")


def test_promtool_takes_every_expression_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{panel['id']}:{target['refId']}", "expr": _filled(target["expr"])}
        for panel in BOARD["panels"]
        for target in panel["targets"]
    ]
    (tmp_path / "panels.yml").write_bytes(orjson.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run(promtool, "check", "rules", "panels.yml", within=tmp_path)


def _filled(expression: str) -> str:
    return expression.replace("$__rate_interval", "1m").replace("$endpoint", ".*")


def test_all_services_are_scraped_where_they_listen() -> None:
    text = (PROMETHEUS / "prometheus.yml").read_text()
    told = re.findall(r'targets: \["127\.0\.0\.1:(\d+)"\], labels: \{service: (\w+)\}', text)
    assert told == [(str(Settings().listen_port(service)), service) for service in PORT_ORDER]


def test_the_dashboard_has_panels_that_name_what_they_show() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"]) >= 12
    for panel in BOARD["panels"]:
        assert panel["title"] and panel["targets"] and all(target["legendFormat"] for target in panel["targets"])
        assert "sum" in panel["targets"][0]["expr"] or "max" in panel["targets"][0]["expr"], "of all replicas together"
