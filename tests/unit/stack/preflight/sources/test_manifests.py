"""Kubernetes manifests, compose files and systemd units are read for what they start, set and hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pytest_mooncake.cli import app

TRANSFER = '{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both","kv_load_failure_policy":"fail"}'
FLAGS = "--no-enable-prefix-caching --enable-prompt-tokens-details"
SERVE = f"vllm serve Qwen/Qwen3-8B {FLAGS} --kv-transfer-config '{TRANSFER}'"
ESCAPED = TRANSFER.replace('"', '\\"')
MODULE = "python3 -m vllm.entrypoints.openai.api_server"
PYTHON = f"{MODULE} --model m --no-enable-prefix-caching --kv-transfer-config '{ESCAPED}'"
CONFIG = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: cfg}
data:
  seed: "0"
  lmcache.yaml: |
    chunk_size: 256
    local_cpu: %s
    remote_url: "mooncakestore://mc:50051/"
    extra_config:
      local_hostname: "%s"
      metadata_server: P2PHANDSHAKE
      mooncake_master_server_addr: mc:50051
---
apiVersion: v1
kind: Service
metadata: {name: vllm}
---
"""
DEPLOYMENT = (
    CONFIG
    + """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: vllm}
spec:
  replicas: %d
  template:
    spec:
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.25.1
        command: [/bin/sh, -c]
        args: [\"\"\"%s\"\"\"]
        env:
        - {name: LMCACHE_CONFIG_FILE, value: /etc/lmcache/lmcache.yaml}
        - {name: PROMETHEUS_MULTIPROC_DIR, value: /tmp/p}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: PYTHONHASHSEED, valueFrom: {configMapKeyRef: {name: cfg, key: seed}}}
"""
)


def deployment(local_cpu: str = "false", hostname: str = "10.0.0.1", replicas: int = 1) -> str:
    block = "|\n          " + SERVE
    text = DEPLOYMENT.replace('[\\"\\"\\"%s\\"\\"\\"]', "%s").replace('["""%s"""]', "%s")
    return text % (local_cpu, hostname, replicas, f"\n        - {block}")


def ids(text: str, path: Path, option: str = "--manifest") -> tuple[set[str], str]:
    path.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app.app, ["doctor", option, str(path)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return set(re.findall(r"^([EW]\d\d) (?:error|warning)", result.output, re.MULTILINE)), result.output


@pytest.mark.parametrize("option", ["--manifest", "--vllm-args", "--lmcache-yaml"])
def test_a_sound_deployment_has_no_findings_whatever_it_is_given_as(option: str, tmp_path: Path) -> None:
    found, output = ids(deployment(), tmp_path / "m.yaml", option)
    assert found == set(), output


def test_a_config_map_that_an_engine_mounts_holds_its_settings(tmp_path: Path) -> None:
    found, output = ids(deployment(local_cpu="true"), tmp_path / "m.yaml")
    assert found == {"E12"}
    assert f"local_cpu is true ({tmp_path}/m.yaml:8)" in output


def test_a_services_name_is_no_pods_own_address(tmp_path: Path) -> None:
    assert ids(deployment(hostname="vllm"), tmp_path / "m.yaml")[0] == {"W42"}


def test_two_replicas_run_on_two_hosts(tmp_path: Path) -> None:
    assert ids(deployment(hostname="localhost", replicas=2), tmp_path / "m.yaml")[0] == {"E23"}


LEADER = f"""\
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {{name: vllm}}
spec:
  leaderWorkerTemplate:
    leaderTemplate:
      spec:
        containers:
        - name: leader
          image: vllm/vllm-openai:latest
          env: [{{name: LMCACHE_LOCAL_CPU, value: "True"}}, {{name: PYTHONHASHSEED, value: "0"}}]
          command: [sh, -c, "bash multi-node-serving.sh leader; {PYTHON}"]
    workerTemplate:
      spec:
        containers:
        - {{name: worker, image: vllm/vllm-openai:latest, command: [sh, -c, "bash multi-node-serving.sh worker"]}}
"""
STATEFUL = f"""\
apiVersion: v1
kind: List
items:
- apiVersion: apps/v1
  kind: StatefulSet
  metadata: {{name: vllm}}
  spec:
    template:
      spec:
        containers:
        - name: vllm
          image: vllm/vllm-openai:latest
          args: [--model, m, --no-enable-prefix-caching, --kv-transfer-config, '{TRANSFER}']
          env: [{{name: LMCACHE_LOCAL_CPU, value: "True"}}, {{name: PYTHONHASHSEED, value: "0"}}]
"""
OTHER_KIND = """\
apiVersion: nvidia.com/v1alpha1
kind: DynamoGraphDeployment
metadata: {name: vllm}
spec:
  services:
    Decode:
      extraPodSpec:
        mainContainer:
          image: x
          command: [python3, -m, dynamo.vllm]
          args: [--model, m, --connector, lmcache, --no-enable-prefix-caching]
          env: [{name: LMCACHE_LOCAL_CPU, value: "True"}, {name: PYTHONHASHSEED, value: "0"}]
"""
COMPOSE = f"""\
services:
  vllm:
    image: vllm/vllm-openai:v0.25.1
    environment:
      LMCACHE_LOCAL_CPU: "True"
      PYTHONHASHSEED: 0
    command: --model m --no-enable-prefix-caching --kv-transfer-config '{TRANSFER}'
"""
COMPOSE_LIST = f"""\
services:
  vllm:
    image: ours
    environment: [LMCACHE_LOCAL_CPU=True, "PYTHONHASHSEED=${{SEED:-0}}"]
    entrypoint: [bash, -c]
    command: ["vllm serve m --no-enable-prefix-caching --kv-transfer-config '{TRANSFER.replace('"', chr(92) + '"')}'"]
"""
UNIT = f"""\
[Unit]
Description=an engine
[Service]
# the seed
Environment="PYTHONHASHSEED=0" LMCACHE_LOCAL_CPU=True
ExecStart=/usr/bin/env vllm serve m \\
  --no-enable-prefix-caching \\
  --kv-transfer-config "{ESCAPED}"
Restart=always
"""


@pytest.mark.parametrize(
    "text",
    [LEADER, STATEFUL, OTHER_KIND, COMPOSE, COMPOSE_LIST, UNIT],
    ids=["LeaderWorkerSet", "StatefulSet in a List", "an operator's own kind", "compose", "compose lists", "systemd"],
)
def test_an_engines_command_and_environment_are_found(text: str, tmp_path: Path) -> None:
    found, output = ids(text, tmp_path / "m")
    assert found == {"E10", "E12", "W27"}, output
    assert re.search(rf"local_cpu is true \(LMCACHE_LOCAL_CPU in {tmp_path}/m:\d+\)", output)


def test_a_whole_stack_in_one_compose_file_is_judged_together(tmp_path: Path) -> None:
    text = f"""\
configs:
  lmcache:
    content: |
      remote_url: mooncakestore://master:50051/
      local_cpu: false
      extra_config:
        mooncake_master_server_addr: master:50051
        metadata_server: http://master:8081/metadata
services:
  master: {{image: m, command: mooncake_master --rpc_port=50052 --enable_http_metadata_server=true}}
  node: {{image: m, command: mooncake_client --global_segment_size=4GB}}
  vllm:
    image: vllm/vllm-openai:v0.25.1
    configs: [{{source: lmcache, target: /etc/lmcache.yaml}}]
    environment: {{LMCACHE_CONFIG_FILE: /etc/lmcache.yaml, PYTHONHASHSEED: "0", PROMETHEUS_MULTIPROC_DIR: /p}}
    command: --model m --no-enable-prefix-caching --enable-prompt-tokens-details --kv-transfer-config '{TRANSFER}'
"""
    assert ids(text, tmp_path / "compose.yaml")[0] == {"E24", "E52"}


def test_a_script_that_starts_everything_is_judged_together(tmp_path: Path) -> None:
    script = f"""\
export PYTHONHASHSEED=0 PROMETHEUS_MULTIPROC_DIR=/tmp/p LMCACHE_CONFIG_FILE=/tmp/l.yaml
cat > /tmp/l.yaml <<EOF
local_cpu: false
remote_url: mooncakestore://10.0.0.9:50051/
extra_config: {{mooncake_master_server_addr: "10.0.0.9:50051", metadata_server: P2PHANDSHAKE}}
EOF
mooncake_master --enable_http_metadata_server=true &
{SERVE} --port 8080 &
"""
    found, output = ids(script, tmp_path / "all.sh", "--vllm-args")
    assert found == {"E31"}, output
    assert "engine 0 and metadata server both claim" in output


def test_a_command_that_is_none_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.service"
    path.write_text("[Service]\nExecStart=/bin/vllm serve 'm\n", encoding="utf-8")
    error = CliRunner().invoke(app.app, ["doctor", "--manifest", str(path)]).exception
    assert f"{path}:2: not a command line" in str(error)
