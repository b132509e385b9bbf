"""Every rule of the preflight finds its fault in files, through the command, and a sound stack has none."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pytest_mooncake.cli import app
from pytest_mooncake.stack.preflight import RULES, Severity, Subject, examine

TRANSFER = {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both", "kv_load_failure_policy": "recompute"}
EXTRA = {
    "local_hostname": "10.0.0.1",
    "metadata_server": "http://10.0.0.9:8080/metadata",
    "protocol": "tcp",
    "global_segment_size": "4GB",
    "local_buffer_size": "256MB",
    "master_server_address": "10.0.0.9:50051",
    "mooncake_master_server_addr": "10.0.0.9:50051",
    "transfer_timeout": 30,
    "save_chunk_meta": False,
}
LMCACHE = {
    "chunk_size": 256,
    "local_cpu": False,
    "max_local_cpu_size": 1.0,
    "save_unfull_chunk": False,
    "remote_url": "mooncakestore://10.0.0.9:50051/",
    "remote_serde": "naive",
    "pre_caching_hash_algorithm": "sha256_cbor",
}
ARGS = {
    "dtype": "bfloat16",
    "block-size": "128",
    "no-enable-prefix-caching": None,
    "enable-prompt-tokens-details": None,
}
ENV = {"PYTHONHASHSEED": "0", "PROMETHEUS_MULTIPROC_DIR": "/tmp/p"}
MODEL = {
    "model_type": "qwen2",
    "num_hidden_layers": 2,
    "hidden_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "intermediate_size": 256,
    "vocab_size": 1000,
    "torch_dtype": "bfloat16",
}
VERSIONS = {"vllm": "0.25.1", "lmcache": "0.5.6", "mooncake": "0.3.13.post1", "mooncake-master": "0.3.13.post1"}
MASTER = "mooncake_master --enable_http_metadata_server=true --default_kv_lease_ttl=5000"


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` over `base`; None takes a key away."""
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


@dataclass(frozen=True)
class Engine:
    """An engine as its files describe it."""

    transfer: Mapping[str, Any] | str | None = field(default_factory=lambda: dict(TRANSFER))
    args: Mapping[str, str | None] = field(default_factory=lambda: dict(ARGS))
    env: Mapping[str, str] = field(default_factory=lambda: dict(ENV))
    lmcache: Mapping[str, Any] | None = field(default_factory=lambda: dict(LMCACHE))
    extra: Mapping[str, Any] = field(default_factory=lambda: dict(EXTRA))
    mooncake: Mapping[str, Any] | None = None
    model: str = "/models/qwen"

    def command(self) -> str:
        words = ["vllm", "serve", self.model]
        for name, value in self.args.items():
            words += [f"--{name}", *([] if value is None else [value])]
        if self.transfer is not None:
            text = self.transfer if isinstance(self.transfer, str) else json.dumps(self.transfer)
            words += ["--kv-transfer-config", text]
        return " ".join([*(f"{name}={shlex.quote(v)}" for name, v in self.env.items()), shlex.join(words)])

    def deployment(self, memory: str) -> str:
        container = {
            "name": "vllm",
            "command": ["bash", "-c", self.command()],
            "resources": {"limits": {"memory": memory}},
        }
        spec = {"replicas": 1, "template": {"spec": {"containers": [container]}}}
        kind = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "vllm"}}
        return yaml.safe_dump({**kind, "spec": spec})


@dataclass(frozen=True)
class Stack:
    """A stack as files and options."""

    engines: tuple[Engine, ...] = (Engine(),)
    master: str | None = MASTER
    server: str | None = None
    model: Mapping[str, Any] | None = field(default_factory=lambda: dict(MODEL))
    versions: Mapping[str, str] = field(default_factory=lambda: dict(VERSIONS))
    options: tuple[str, ...] = ("--workload", "long-document")
    memory: str | None = None

    def write(self, folder: Path) -> list[str]:
        given: list[str] = []

        def give(option: str, name: str, text: str) -> None:
            (folder / name).write_text(text, encoding="utf-8")
            given.extend([option, str(folder / name)])

        for place, engine in enumerate(self.engines):
            text = engine.deployment(self.memory) if self.memory else engine.command()
            give("--vllm-args", f"vllm{place}.sh", text)
            if engine.lmcache is not None:
                extra = {"extra_config": dict(engine.extra)} if engine.extra else {}
                give("--lmcache-yaml", f"lmcache{place}.yaml", yaml.safe_dump({**extra, **engine.lmcache}))
            if engine.mooncake is not None:
                give("--mooncake-json", f"mooncake{place}.json", json.dumps(engine.mooncake))
        for option, name, whole in (
            ("--master-flags", "master.sh", self.master),
            ("--lmcache-server-args", "server.sh", self.server),
            ("--model-config", "config.json", json.dumps(self.model) if self.model else None),
        ):
            if whole is not None:
                give(option, name, whole)
        for part, number in self.versions.items():
            given += ["--version", f"{part}={number}"]
        return [*given, *self.options]


def args(**changes: str | None) -> Engine:
    told: dict[str, str | None] = {**ARGS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return Engine(args=told)


def without(name: str) -> Engine:
    return Engine(args={key: value for key, value in ARGS.items() if key != name})


def transfer(**changes: object) -> Engine:
    return Engine(transfer=merged(TRANSFER, changes))


def lmcache(**changes: object) -> Engine:
    return Engine(lmcache=merged(LMCACHE, changes))


def extra(**changes: object) -> Engine:
    return Engine(extra=merged(EXTRA, changes))


def env(engine: Engine | None = None, **changes: str | None) -> Engine:
    return replace(engine or Engine(), env=merged(ENV, changes))


def of(*engines: Engine, **changes: Any) -> Stack:
    return Stack(engines=engines or (Engine(),), **changes)


def versions(**changes: str | None) -> dict[str, str]:
    return merged(VERSIONS, {name.replace("_", "-"): value for name, value in changes.items()})


def planned(*what: str) -> tuple[str, ...]:
    return tuple(word for one in what for word in ("--planned", one))


OWN_JSON = {
    "mode": "embedded",
    "metadata_server": "P2PHANDSHAKE",
    "master_server_address": "10.0.0.9:50051",
    "protocol": "tcp",
    "global_segment_size": "4GB",
    "local_buffer_size": "1GB",
}


def own(**changes: object) -> Engine:
    """An engine with vLLM's own store connector."""
    return Engine(
        transfer={**TRANSFER, "kv_connector": "MooncakeStoreConnector"},
        lmcache=None,
        env={**ENV, "MOONCAKE_CONFIG_PATH": "/m.json"},
        mooncake=merged(OWN_JSON, changes),
    )


def mp(port: int = 5555, role: str = "kv_both") -> Engine:
    """An engine of LMCache's multiprocess mode."""
    told = {"lmcache.mp.host": "tcp://localhost", "lmcache.mp.port": port}
    settings = {**TRANSFER, "kv_connector": "LMCacheMPConnector", "kv_role": role, "kv_connector_extra_config": told}
    return Engine(transfer=settings, lmcache=None)


def server(adapter: Mapping[str, Any] | str | None, *flags: str) -> str:
    words = ["lmcache", "server", "--port", "5555", "--http-port", "8090", *flags]
    text = adapter if isinstance(adapter, str) or adapter is None else json.dumps(adapter)
    return shlex.join(words if text is None else [*words, "--l2-adapter", text])


ADAPTER = {
    "type": "mooncake_store",
    "local_hostname": "10.0.0.1",
    "metadata_server": "P2PHANDSHAKE",
    "protocol": "tcp",
    "master_server_addr": "10.0.0.9:50051",
    "global_segment_size": "4294967296",
}
TWO_HOSTS = (env(VLLM_HOST_IP="10.0.0.1"), env(extra(local_hostname="10.0.0.2"), VLLM_HOST_IP="10.0.0.2"))
MULTI = {
    "kv_connector": "MultiConnector",
    "kv_role": "kv_both",
    "kv_load_failure_policy": "fail",
    "kv_connector_extra_config": {
        "connectors": [
            {"kv_connector": "NixlConnector", "kv_role": "kv_consumer"},
            {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"},
        ]
    },
}

FAULTS: list[tuple[str, Stack]] = [
    ("E01", of(Engine(transfer=None))),
    ("E01", of(Engine(transfer="{not json"))),
    ("E01", of(Engine(transfer='["a list"]'))),
    ("E01", of(transfer(kv_connector="LMCacheConnector"))),
    ("E01", of(transfer(kv_connector="lmcacheconnectorv1"))),
    ("E01", of(transfer(kv_role=None))),
    ("E01", of(transfer(kv_role="both"))),
    ("E01", of(transfer(kv_load_failure_policy="retry"))),
    ("E01", of(transfer(kv_connector="MultiConnector"))),
    ("E01", of(Engine(transfer=None, args={**ARGS, "kv-offloading-backend": "lmcache"}))),
    ("E02", of(versions=versions(vllm="0.6.0"))),
    ("E02", of(own(), versions=versions(vllm="0.20.2"))),
    ("W03", of(versions=versions(vllm="0.26.0"))),
    ("E04", of(args(device="cpu"))),
    ("E04", of(versions=versions(vllm="0.25.1+cpu"))),
    ("E05", of(extra(mooncake_master_server_addr=None))),
    ("E05", of(extra(protocol="rdma", device_name="mlx5_0"))),
    ("W06", of(extra(master_server_address="10.0.0.8:50051"))),
    ("W06", of(extra(mooncake_protocol="rdma"))),
    ("E07", of(mp(), server=server({**ADAPTER, "master_server_address": "10.0.0.9:50051"}))),
    ("E07", of(mp(), server=server({**ADAPTER, "mooncake_rdma_devices": "mlx5_0"}))),
    ("E07", of(mp(), server=server("{broken"))),
    ("E08", of(env(MOONCAKE_CONFIG_PATH="/m.json"))),
    ("E08", of(Engine(mooncake=EXTRA))),
    ("W09", of(lmcache(remote_url="mooncakestore://other:50051/"))),
    ("W09", of(lmcache(remote_url="mooncakestore://other:50051/"), versions=versions(lmcache="0.3.6"))),
    ("W09", of(lmcache(remote_url="mooncakestore://other:50051/"), versions=versions(lmcache="0.4.2"))),
    ("W09", of(Engine(extra={}, lmcache=merged(LMCACHE, {"remote_url": "mooncakestore://m:50052/"})))),
    ("E10", of(lmcache(remote_url=None))),
    ("E10", of(lmcache(remote_url="redis://10.0.0.9:6379"))),
    ("E10", of(mp(), server=server(None))),
    ("E11", of(lmcache(external_lookup_client="mooncakestore://10.0.0.9:50051"))),
    ("E12", of(lmcache(local_cpu=True))),
    ("E12", of(lmcache(local_cpu=None))),
    ("E12", of(env(LMCACHE_LOCAL_CPU="True"))),
    ("E12", of(transfer(kv_connector_extra_config={"lmcache.local_cpu": True}))),
    ("E12", of(env(Engine(lmcache=None), LMCACHE_CONFIG_FILE="/l.yaml", LMCACHE_LOCAL_CPU="True"))),
    ("E17", of(env(Engine(lmcache=None), LMCACHE_CONFIG_FILE="/l.yaml", LMCACHE_REMOTE_SERDE="cachegen"))),
    (
        "E10",
        of(replace(transfer(kv_connector_extra_config={"lmcache.local_cpu": False}), lmcache=None)),
    ),
    ("E13", of(lmcache(max_local_cpu_size=0.01))),
    ("E13", of(lmcache(max_local_cpu_size=0))),
    ("E14", of(Engine(), lmcache(chunk_size=512))),
    ("E14", of(lmcache(chunk_size=192))),
    ("E15", of(env(lmcache(pre_caching_hash_algorithm=None), PYTHONHASHSEED=None))),
    ("E15", of(env(PYTHONHASHSEED=None))),
    ("E15", of(Engine(), env(PYTHONHASHSEED="1"))),
    ("E15", of(Engine(), lmcache(pre_caching_hash_algorithm="builtin"))),
    ("E15", of(lmcache(pre_caching_hash_algorithm="sha256_hex"))),
    ("E15", of(replace(own(), env={"MOONCAKE_CONFIG_PATH": "/m.json"}))),
    ("E16", of(Engine(), Engine(model="qwen"))),
    ("E16", of(Engine(), args(tensor_parallel_size="2"))),
    ("E16", of(Engine(), args(kv_cache_dtype="fp8"))),
    ("E17", of(lmcache(remote_serde="cachegen"))),
    ("E18", of(Engine(), extra(save_chunk_meta=None))),
    ("W19", of(extra(transfer_timeout=0.01))),
    ("W19", of(extra(transfer_timeout=None), options=())),
    ("W20", of(master=f"{MASTER} --default_kv_lease_ttl=10")),
    ("W20", of(master=f"{MASTER} --default_kv_lease_ttl=0.01s")),
    ("W20", of(master=f"{MASTER} --default_kv_lease_ttl=soon")),
    ("E21", of(extra(global_segment_size="100MB"))),
    ("E22", of(memory="1Gi")),
    ("E23", of(env(extra(local_hostname="localhost"), VLLM_HOST_IP="10.0.0.1"), TWO_HOSTS[1])),
    ("E24", of(master="mooncake_master --rpc_port=50051")),
    ("E24", of(master=f"{MASTER} --http_metadata_server_port=8090")),
    ("E24", of(master=f"{MASTER} --http_metadata_server_host=127.0.0.1")),
    ("E24", of(Engine(), extra(metadata_server="P2PHANDSHAKE"))),
    ("E25", of(Engine(), extra(protocol="rdma", mooncake_rdma_devices="mlx5_0"))),
    ("W27", of(without("enable-prompt-tokens-details"))),
    ("W27", of(env(PROMETHEUS_MULTIPROC_DIR=None))),
    ("W28", of(env(VLLM_SERVER_DEV_MODE="1"))),
    ("W28", of(lmcache(internal_api_server_enabled=True, internal_api_server_host="10.0.0.1"))),
    ("E29", of(own(), options=planned("reset-external"))),
    ("E31", of(master=f"{MASTER} --metrics_port=8080")),
    ("E31", of(mp(), server=server(ADAPTER, "--http-port", "5555"))),
    ("W32", of(transfer(kv_load_failure_policy=None))),
    ("W33", of(lmcache(save_unfull_chunk=True))),
    ("W33", of(lmcache(min_retrieve_tokens=512))),
    ("W34", of(lmcache(chunk_size=32_768))),
    ("W35", of(without("no-enable-prefix-caching"))),
    ("W36", of(Engine(), args(max_num_batched_tokens="2048"))),
    ("W37", of(model={**MODEL, "architectures": ["FalconMambaForCausalLM"]})),
    ("W37", of(model={**MODEL, "layer_types": ["linear_attention"]})),
    ("W37", of(model={**MODEL, "index_topk": 2048})),
    ("W37", of(model={"model_type": "x", "text_config": MODEL, "vision_config": {"depth": 1}})),
    ("W37", of(Engine(model="Qwen/Qwen3-Next-80B-A3B"), model=None)),
    ("W37", of(args(speculative_config='{"method":"mtp"}'))),
    ("W38", of(options=planned("faults"))),
    ("E39", of(versions=versions(mooncake_master="0.3.12", mooncake="0.3.12"), options=planned("clear"))),
    ("W40", of(versions=versions(mooncake_master="0.3.12.post1"))),
    ("W41", of(options=planned("tenants"))),
    ("W42", of(extra(local_hostname="0.0.0.0"))),
    ("W42", of(extra(local_hostname="localhost"))),
    ("W42", of(extra(local_hostname="llm.ai.svc.cluster.local"))),
    ("W43", of(extra(global_segment_size=0))),
    ("W44", of(lmcache(chunksize=256))),
    ("W44", of(extra(rdma_devices="mlx5_0"))),
    ("W44", of(env(LMCACHE_LOCALCPU="False"))),
    ("W44", of(own(tennant_id="a"))),
    ("W44", of(mp(), server=server({**ADAPTER, "segment_size": 1}))),
    ("E45", of(lmcache(max_local_cpu_size="1GB"))),
    ("E45", of(lmcache(chunk_size="large"))),
    ("E45", of(lmcache(save_unfull_chunk="yes"))),
    ("E45", of(extra(global_segment_size="much"))),
    ("W46", of(transfer(kv_connector="AscendStoreConnector"))),
    ("W47", of(transfer(kv_role="kv_consumer"))),
    ("W47", of(transfer(kv_role="kv_producer"), transfer(kv_role="kv_consumer"))),
    ("W47", of(Engine(transfer=MULTI))),
    (
        "W47",
        of(replace(own(), transfer={**TRANSFER, "kv_connector": "MooncakeStoreConnector", "kv_role": "kv_consumer"})),
    ),
    ("W47", of(env(LMCACHE_FORCE_SKIP_SAVE="False"))),
    ("W48", of(lmcache(use_layerwise=True))),
    ("W48", of(lmcache(enable_blending=True))),
    ("E49", of(own(mode="standalone-store"))),
    ("E49", of(own(mode="standalone"))),
    ("E49", of(own(global_segment_size=0))),
    ("E49", of(own(local_buffer_size=0))),
    ("E49", of(own(local_buffer_size="4GiB"))),
    ("E49", of(own(master_server_address=None))),
    ("E50", of(replace(own(), mooncake=None, env=ENV))),
    ("E51", of(extra(protocol="TCP"))),
    ("E51", of(mp(), server=server({**ADAPTER, "protocol": "Rdma"}))),
    ("E52", of(master=f"{MASTER} --rpc_port=50052")),
    ("E52", of(extra(master_server_address="etcd://e:2379", mooncake_master_server_addr="etcd://e:2379"))),
    ("E53", of(mp(6555), server=server(ADAPTER))),
    ("W54", of(versions=versions(mooncake_master="0.3.11", mooncake="0.3.11"))),
    ("W55", of(mp(), master="mooncake_master --port=50052")),
]
ALSO = {
    # another rule's error is part of the same fault
    "E52": {"E24", "E52"},
    "W42": {"W42"},
}
ELSEWHERE = {"E30": "tests/integration/test_preflight.py, a master that runs", "W26": "below, this machine"}


def doctor(stack: Stack, folder: Path) -> tuple[str, int]:
    result = CliRunner().invoke(app.app, ["doctor", *stack.write(folder)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output, result.exit_code


def found(output: str) -> dict[str, set[str]]:
    told: dict[str, set[str]] = {}
    for rule, kind in re.findall(r"^([EW]\d\d) (error|warning|note): ", output, re.MULTILINE):
        told.setdefault(kind, set()).add(rule)
    return told


@pytest.mark.parametrize(("rule", "stack"), FAULTS, ids=[f"{rule}-{i}" for i, (rule, _) in enumerate(FAULTS)])
def test_a_rule_finds_its_fault_and_nothing_else_is_an_error(rule: str, stack: Stack, tmp_path: Path) -> None:
    output, code = doctor(stack, tmp_path)
    told = found(output)
    kind = "error" if rule.startswith("E") else "warning"

    assert rule in told.get(kind, set()), output
    assert told.get("error", set()) <= ALSO.get(rule, {rule}), output
    assert code == bool(told.get("error"))


def test_every_rule_has_a_test_and_a_title() -> None:
    assert {rule for rule, _ in FAULTS} | set(ELSEWHERE) == set(RULES)
    for rule in RULES.values():
        assert rule.title
        assert rule.why
        assert rule.fix
        assert rule.versions
        assert rule.facts
        assert rule.severity is (Severity.ERROR if rule.id.startswith("E") else Severity.WARNING)


SOUND = {
    "one engine": Stack(),
    "two engines": of(Engine(), extra(local_hostname="10.0.0.2")),
    "two hosts": of(*TWO_HOSTS),
    "a container": of(memory="64Gi"),
    "vLLM's own connector": of(own(), master=None),
    "its own connector on a store elsewhere": of(own(mode="standalone-store", global_segment_size=0), master=None),
    "multiprocess": of(mp(), server=server(ADAPTER), master=None),
    "extra_config in the environment": of(env(Engine(extra={}), LMCACHE_EXTRA_CONFIG=json.dumps(EXTRA))),
    "the environment alone": of(
        env(
            Engine(lmcache=None),
            **{f"LMCACHE_{key.upper()}": str(value) for key, value in LMCACHE.items()},
            LMCACHE_EXTRA_CONFIG=json.dumps(EXTRA),
        )
    ),
    "a file that replaces extra_config": of(Engine(extra={"save_chunk_meta": False}, mooncake=EXTRA)),
    "the older spelling with older parts": of(
        extra(mooncake_master_server_addr=None), versions=versions(lmcache="0.3.15")
    ),
    "the default master": of(
        Engine(
            lmcache=merged(LMCACHE, {"remote_url": "mooncakestore://127.0.0.1:50051/"}),
            extra=merged(
                EXTRA,
                {
                    "mooncake_master_server_addr": None,
                    "master_server_address": "127.0.0.1:50051",
                    "metadata_server": "P2PHANDSHAKE",
                    "local_hostname": "127.0.0.1",
                },
            ),
        )
    ),
    "a connector of one's own on a CPU": of(
        Engine(
            transfer={**TRANSFER, "kv_connector": "LMCacheCPUConnector", "kv_connector_module_path": "our.connector"},
            args={**ARGS, "device": "cpu"},
        )
    ),
    "sha256 without a seed on a new vLLM": of(env(PYTHONHASHSEED=None), versions=versions(vllm="0.29.0")),
    "versions that nobody can read": of(versions={"vllm": "0.1.dev1+g3f2a1b", "lmcache": "dev", "mooncake": "nightly"}),
    "plugins' own keys": of(extra(s3_region="x", **{"remote_storage_plugin.a.b": 1})),
}


@pytest.mark.parametrize("stack", SOUND.values(), ids=SOUND.keys())
def test_a_sound_stack_has_no_finding(stack: Stack, tmp_path: Path) -> None:
    output, code = doctor(stack, tmp_path)
    told = found(output)
    assert code == 0, output
    # in-process LMCache on vLLM 0.26 and newer always asks for the correctness gate
    assert told.get("warning", set()) <= {"W03"}, output
    assert not told.get("note"), output


def test_a_rule_that_wants_something_says_what_and_is_counted(tmp_path: Path) -> None:
    output, _ = doctor(of(Engine(lmcache=None), master=None, model=None, versions={}, options=()), tmp_path)
    assert re.search(r"could not be applied: .*E12.*: give --lmcache-yaml FILE", output)
    assert re.search(r"could not be applied: E02, W03: give --version vllm=X\.Y\.Z", output)
    assert "0 errors, 0 warnings, 0 notes" in output


def test_the_reference_page_is_what_the_rules_say() -> None:
    page = Path(__file__).parents[4] / "docs" / "reference" / "lints.md"
    result = CliRunner().invoke(app.app, ["doctor", "--rules"])
    assert page.read_text(encoding="utf-8") == result.output, (
        "made by `pytest-mooncake doctor --rules > docs/reference/lints.md`"
    )


def test_nothing_is_held_against_what_is_not_known() -> None:
    assert examine(Subject()).findings == ()


def test_errors_come_first_and_in_order(tmp_path: Path) -> None:
    output, _ = doctor(of(lmcache(local_cpu=True, remote_serde="cachegen", min_retrieve_tokens=1)), tmp_path)
    assert re.findall(r"^([EW]\d\d) ", output, re.MULTILINE) == ["E12", "E17", "W33"]


def test_a_finding_says_where_it_was_told(tmp_path: Path) -> None:
    output, _ = doctor(of(lmcache(local_cpu=True)), tmp_path)
    line = next(
        n for n, text in enumerate((tmp_path / "lmcache0.yaml").read_text().splitlines(), 1) if "local_cpu" in text
    )
    assert f"local_cpu is true ({tmp_path}/lmcache0.yaml:{line})" in output


def test_rdma_on_a_machine_without_a_device_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_mooncake.run import preflight

    monkeypatch.setattr(preflight, "_rdma_devices", lambda: ())
    rdma = extra(protocol="rdma", mooncake_rdma_devices="mlx5_0", global_segment_size=4096, local_buffer_size=4096)
    stack = of(replace(rdma, lmcache={**LMCACHE, "max_local_cpu_size": 0.1}), options=("--here",))
    output, _ = doctor(stack, tmp_path)
    assert "W26 warning: engine 0: protocol rdma and no RDMA device exists" in output
