"""The files of deploy/: no container engine is here, so they are checked as far as they can be."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compose_spec
import kubernetes_validate
import pytest
import yaml

from futu import __version__, cli, config
from futu.controller.app import create_app
from futu.controller.service import Controller

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = "1.31"
SECRET = re.compile(r"(PASSWORD|TOKEN|SECRET|KEY)(?!_FILE)\b.*=\s*\S")
OURS = re.compile(r"futu-(?:controller|compute):(\S+)")


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments of each line of the Dockerfile."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pairs = [line.strip().split(maxsplit=1) for line in lines]
    return [(name, " ".join(rest.split())) for name, rest in pairs]


def stages() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for name, rest in instructions():
        if name == "FROM":
            base, _, stage = rest.partition(" AS ")
            found[stage] = list(found.get(base, []))
        found[stage].append((name, rest))
    return found


def manifests() -> list[dict[str, Any]]:
    text = (DEPLOY / "kubernetes" / "futu.yaml").read_text("utf-8")
    return list(yaml.safe_load_all(text))


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in manifests():
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return loaded


def test_hadolint_has_nothing_to_say() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [program, "--failure-threshold", "style", DEPLOY / "Dockerfile"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_images_are_pinned_to_a_version() -> None:
    names = [rest.split(" AS ")[0] for name, rest in instructions() if name == "FROM"]
    names = [name for name in names if name not in stages()]
    names += [service["image"] for service in compose()["services"].values()]
    names += [c["image"] for _, pod in pods() for c in pod["containers"]]
    for name in names:
        assert re.search(r":v?\d+\.\d+", name), name
        if ours := OURS.fullmatch(name):
            assert ours[1] == __version__


@pytest.mark.parametrize("stage", ["controller", "compute"])
def test_image_runs_a_command_of_ours_as_nobody_in_particular(stage: str) -> None:
    found = stages()[stage]
    (user,) = [rest for name, rest in found if name == "USER"]
    assert int(user.split(":")[0]) >= 10_000
    assert [name for name, _ in found].index("USER") < len(found) - 1
    assert any(name == "HEALTHCHECK" for name, _ in found)
    command = json.loads([rest for name, rest in found if name == "CMD"][-1])
    assert command[0] == "futu"
    assert command[1] in cli.cli.commands


def test_image_holds_no_secret_and_only_settings_that_exist() -> None:
    for name, rest in instructions():
        assert name != "ADD"
        if name in ("ENV", "ARG"):
            assert not SECRET.search(rest)
            for variable in re.findall(r"\b(FUTU_\w+)=", rest):
                assert variable in config.variables()


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for name, rest in instructions():
        if name == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source.removeprefix('./')}" in ignored


def test_compose_file_is_valid_and_waits_for_redis() -> None:
    loaded = compose()
    interpolated = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", json.dumps(loaded))
    compose_spec.PyCompose.from_json(interpolated)
    services = loaded["services"]
    assert services.keys() == {"redis", "controller", "compute", "postgres", "milvus"}
    assert {n for n, s in services.items() if "profiles" in s} == {"postgres", "milvus"}
    for name in ("controller", "compute"):
        service = services[name]
        assert service["depends_on"]["redis"]["condition"] == "service_healthy"
        assert service["build"]["target"] in stages()
        assert set(service["secrets"]) <= loaded["secrets"].keys()
        for variable, value in service["environment"].items():
            assert variable.removesuffix("_FILE") in config.variables(), variable
            assert not SECRET.search(f"{variable}={value}")
        assert any(volume.endswith(":ro") for volume in service["volumes"])
    assert all(port.startswith("127.0.0.1:") for port in services["controller"]["ports"])


def test_manifests_are_valid() -> None:
    kinds = []
    for manifest in manifests():
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        kinds.append(manifest["kind"])
        assert manifest["metadata"].get("namespace", "futu") == "futu"
    assert "Secret" not in kinds


def test_pods_are_probed_bounded_and_closed() -> None:
    for name, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert "livenessProbe" in container, name
            assert "memory" in container["resources"]["limits"]
            closed = container["securityContext"]
            assert closed["readOnlyRootFilesystem"] is True
            assert closed["allowPrivilegeEscalation"] is False
            assert {mount["name"] for mount in container["volumeMounts"]} <= (volumes | {"data"}), (
                name
            )


def test_probed_paths_are_routes_that_need_no_token(controller: Controller) -> None:
    http = create_app(controller).test_client()
    probes = [
        probe["httpGet"]
        for _, pod in pods()
        for container in pod["containers"]
        for name, probe in container.items()
        if name.endswith("Probe") and "httpGet" in probe
    ]
    assert {probe["path"] for probe in probes} == {"/health/live", "/health"}
    for probe in probes:
        answer = http.get(probe["path"], environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
        assert answer.status_code in (200, 503)


def test_labels_ports_and_scale_targets_of_manifests_fit_together() -> None:
    by_name = {(m["kind"], m["metadata"]["name"]): m for m in manifests()}
    labels = {
        m["metadata"]["name"]: m["spec"]["template"]["metadata"]["labels"]
        for m in manifests()
        if m["kind"] in ("Deployment", "StatefulSet")
    }
    ports = {
        name: {p["name"] for c in pod["containers"] for p in c.get("ports", ())}
        for name, pod in pods()
    }
    for (kind, name), manifest in by_name.items():
        spec = manifest.get("spec", {})
        if kind == "Service":
            assert spec["selector"] == labels[name]
            assert {port["targetPort"] for port in spec["ports"]} <= ports[name]
        if kind in ("Deployment", "StatefulSet"):
            assert spec["selector"]["matchLabels"] == labels[name]
        if kind == "HorizontalPodAutoscaler":
            target = spec["scaleTargetRef"]
            assert (target["kind"], target["name"]) in by_name


@pytest.mark.parametrize("name", ["futu-controller.service", "futu-compute.service"])
def test_systemd_takes_the_unit(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / name).read_text("utf-8")
    (command,) = re.findall(r"^ExecStart=(\S+) (\w+)$", text, re.MULTILINE)
    assert command[1] in cli.cli.commands
    for variable in re.findall(r"\b(FUTU_\w+)=", text):
        assert variable in config.variables()
    assert not SECRET.search(text)
    if not shutil.which("systemd-analyze"):
        return
    # The program is not installed where the unit has it.
    unit = tmp_path / name
    unit.write_text(text.replace(command[0], sys.executable), "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", unit],
        capture_output=True,
        text=True,
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )
    assert done.returncode == 0, done.stderr
    assert name not in done.stderr


# --- Prometheus and Grafana ---------------------------------------------------------------------


def test_scrape_configuration_asks_for_metrics_with_a_token() -> None:
    text = (DEPLOY / "prometheus" / "prometheus.yaml").read_text("utf-8")
    (job,) = yaml.safe_load(text)["scrape_configs"]
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert job["authorization"]["credentials_file"]
