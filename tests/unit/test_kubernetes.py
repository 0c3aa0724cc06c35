"""infra/k8s, read as it stands: every setting exists, no secret stands inline, probes ask what is really there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import app
from pipeline.cli.health import Part
from pipeline.gateway.operations import Operation
from pipeline.settings import FILE, SECRETS, SETTINGS, Settings

ROOT = Path(__file__).parents[2]
BASE = ROOT / "infra" / "k8s" / "base"
OVERLAY = ROOT / "infra" / "k8s" / "overlays" / "production"
WORKLOADS = {"Deployment", "StatefulSet", "Job"}
ALWAYS = {"gateway", "worker", "sink"}


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def base() -> list[dict[str, Any]]:
    """All resources of the base."""
    return [one for name in documents(BASE / "kustomization.yaml")[0]["resources"] for one in documents(BASE / name)]


def workloads() -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in base() if one["kind"] in WORKLOADS}


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    return dict(workload["spec"]["template"]["spec"])


def container(workload: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(workload)["containers"]
    return dict(found)


def literals() -> dict[str, str]:
    """The settings that all parts share, of base and overlay."""
    found: dict[str, str] = {}
    for path in (BASE, OVERLAY):
        (kustomization,) = documents(path / "kustomization.yaml")
        for generator in kustomization["configMapGenerator"]:
            assert generator["name"] == "meterline"
            found |= dict(pair.split("=", 1) for pair in generator["literals"])
    return found


def settings_of(workload: dict[str, Any]) -> dict[str, str]:
    own = {one["name"]: one.get("value", "from the pod") for one in container(workload)["env"]}
    return literals() | own


def routes() -> Iterator[Operation]:
    from pipeline.gateway.health import OPERATIONS

    yield from OPERATIONS


def test_every_part_is_there() -> None:
    assert set(workloads()) == ALWAYS | {"topics", "migrations"}
    assert {name for name, one in workloads().items() if one["kind"] == "StatefulSet"} == {"worker", "sink"}


def test_every_file_is_used() -> None:
    listed = set(documents(BASE / "kustomization.yaml")[0]["resources"]) | {"kustomization.yaml"}
    assert {path.name for path in BASE.iterdir()} == listed


@pytest.mark.parametrize("name", sorted(ALWAYS | {"topics", "migrations"}))
def test_every_setting_exists_and_can_be_read(name: str, tmp_path: Path) -> None:
    environ = settings_of(workloads()[name])
    known = {setting.variable for setting in SETTINGS} | {variable + FILE for variable in SECRETS}
    assert set(environ) <= known
    secret = tmp_path / "secret"
    secret.write_text("first:" + "0123456789abcdef" * 2)
    given = {key: str(secret) if key.endswith(FILE) else text for key, text in environ.items()}
    settings = Settings.load(given)
    assert settings.kafka_security == "SASL_SSL"


@pytest.mark.parametrize("name", sorted(ALWAYS | {"topics", "migrations"}))
def test_no_secret_stands_inline_and_every_file_is_mounted(name: str) -> None:
    workload = workloads()[name]
    environ = settings_of(workload)
    assert not set(environ) & SECRETS
    volumes = {one["name"]: one for one in pod(workload)["volumes"]}
    mounts = {one["mountPath"]: one["name"] for one in container(workload)["volumeMounts"]}
    for variable, path in environ.items():
        if variable.endswith(FILE) or variable == "METERLINE_KAFKA_CA":
            volume = volumes[mounts[str(Path(path).parent)]]
            assert "secret" in volume, variable
    if "METERLINE_KAFKA_PASSWORD_FILE" in environ:
        assert volumes["kafka"]["secret"]["secretName"] == f"meterline-kafka-{environ['METERLINE_KAFKA_USER']}"


def test_there_are_no_secrets_in_the_files() -> None:
    assert not [one for one in base() if one["kind"] == "Secret"]
    text = "".join(path.read_text() for path in (ROOT / "infra" / "k8s").rglob("*.yaml"))
    assert "secretGenerator" not in text


def test_probes_ask_what_is_really_there() -> None:
    paths = {one.path for one in routes() if one.method == "GET" and one.scope is None}
    for name in ALWAYS:
        found = container(workloads()[name])
        ports = {one["name"]: one["containerPort"] for one in found.get("ports", [])}
        probes = [found[kind] for kind in ("startupProbe", "readinessProbe", "livenessProbe") if kind in found]
        assert len(probes) >= 2
        for probe in probes:
            if "httpGet" in probe:
                assert probe["httpGet"]["path"] in paths
                listens = settings_of(workloads()[name])["METERLINE_GATEWAY_LISTEN"]
                assert listens.endswith(f":{ports[probe['httpGet']['port']]}")
            else:
                assert probe["exec"]["command"] == ["meterline", "health", Part(name).value]


def test_commands_exist() -> None:
    names = {one.name or getattr(one.callback, "__name__", "") for one in app.registered_commands}
    names |= {one.name for one in app.registered_groups}
    for workload in workloads().values():
        assert container(workload)["args"][0] in names


@pytest.mark.parametrize("name", sorted(ALWAYS | {"topics", "migrations"}))
def test_every_part_is_confined_and_asks_for_what_it_needs(name: str) -> None:
    workload = workloads()[name]
    assert pod(workload)["securityContext"]["runAsNonRoot"] is True
    assert pod(workload)["automountServiceAccountToken"] is False
    confined = container(workload)["securityContext"]
    assert confined["readOnlyRootFilesystem"] is True
    assert confined["allowPrivilegeEscalation"] is False
    assert confined["capabilities"] == {"drop": ["ALL"]}
    resources = container(workload)["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert "memory" in resources["limits"]


def test_whatever_runs_always_has_a_disruption_budget() -> None:
    budgets = {one["metadata"]["name"]: one["spec"] for one in base() if one["kind"] == "PodDisruptionBudget"}
    assert set(budgets) == ALWAYS
    for name, spec in budgets.items():
        assert spec["selector"] == workloads()[name]["spec"]["selector"]


@pytest.mark.parametrize("name", ["worker", "sink"])
def test_a_member_of_a_group_has_a_name_that_outlives_its_pod(name: str) -> None:
    found = workloads()[name]
    (instance,) = [one for one in container(found)["env"] if one["name"] == "METERLINE_INSTANCE"]
    assert instance["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    assert found["spec"]["serviceName"] in {one["metadata"]["name"] for one in base() if one["kind"] == "Service"}
    assert settings_of(found)["METERLINE_SESSION_TIMEOUT"] == "45s"


def test_a_worker_has_a_volume_that_outlives_its_pod() -> None:
    worker = workloads()["worker"]
    (claim,) = worker["spec"]["volumeClaimTemplates"]
    mounts = {one["name"]: one["mountPath"] for one in container(worker)["volumeMounts"]}
    assert settings_of(worker)["METERLINE_STATE"].startswith(mounts[claim["metadata"]["name"]])


def test_network_policies_select_what_exists() -> None:
    policies = [one for one in base() if one["kind"] == "NetworkPolicy"]
    labels = {one: pods["spec"]["template"]["metadata"]["labels"] for one, pods in workloads().items()}
    (part_of,) = documents(BASE / "kustomization.yaml")[0]["labels"]
    assert part_of["includeTemplates"] is True
    for one in policies:
        selector = one["spec"]["podSelector"]
        wanted = set(selector.get("matchLabels", {}).items()) - set(part_of["pairs"].items())
        assert not wanted or any(wanted <= set(found.items()) for found in labels.values()), one["metadata"]["name"]
        for expression in selector.get("matchExpressions", []):
            assert set(expression["values"]) <= set(labels)
    shut = [one["spec"] for one in policies if one["spec"]["podSelector"] == {} and "egress" not in one["spec"]]
    assert shut
    assert shut[0]["policyTypes"] == ["Ingress", "Egress"]


def test_prometheus_finds_the_metrics() -> None:
    (monitor,) = [one for one in base() if one["kind"] == "ServiceMonitor"]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = [one for one in base() if one["kind"] == "Service" and wanted <= one["metadata"]["labels"].items()]
    (service,) = services
    (endpoint,) = monitor["spec"]["endpoints"]
    (port,) = [one for one in service["spec"]["ports"] if one["name"] == endpoint["port"]]
    assert settings_of(workloads()["gateway"])["METERLINE_GATEWAY_METRICS"].endswith(f":{port['port']}")


def test_the_image_is_the_version_that_this_is() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    tags = {one["newTag"] for path in (BASE, OVERLAY) for one in documents(path / "kustomization.yaml")[0]["images"]}
    compose = (ROOT / "docker-compose.yml").read_text()
    assert tags == set(re.findall(r"image: meterline:(\S+)", compose)) == {version[1]}
