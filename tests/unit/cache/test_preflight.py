"""Every rule of the preflight finds its fault, and a stack that is known to work has none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.cache.preflight import (
    RULES,
    EngineConfig,
    HostFacts,
    Intent,
    Severity,
    Subject,
    WorkloadShape,
    lint,
    parse_vllm_args,
)
from pytest_mooncake.cache.preflight.subject import json_mapping, size_bytes, version_key
from pytest_mooncake.records import KVGeometry

GIB = 2**30
TRANSFER = {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both", "kv_load_failure_policy": "recompute"}
EXTRA = {
    "local_hostname": "10.0.0.1",
    "metadata_server": "http://10.0.0.9:8080/metadata",
    "protocol": "tcp",
    "global_segment_size": 0,
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
    "extra_config": EXTRA,
}
ARGS = {
    "model": "/models/qwen",
    "dtype": "bfloat16",
    "block-size": "128",
    "enable-prefix-caching": "false",
    "enable-prompt-tokens-details": "true",
    "kv-transfer-config": json.dumps(TRANSFER),
}
ENGINE = EngineConfig(
    args=ARGS, lmcache=LMCACHE, env={"PYTHONHASHSEED": "0", "PROMETHEUS_MULTIPROC_DIR": "/tmp/p"}, host="a"
)
HEALTHY = Subject(
    engines=(ENGINE,),
    versions={"vllm": "0.25.1", "lmcache": "0.5.6", "mooncake": "0.3.13.post1", "mooncake-master": "0.3.13.post1"},
    master_flags={"enable_http_metadata_server": "true", "default_kv_lease_ttl": "5000"},
    master_address="10.0.0.9:50051",
    node_segment_bytes=8 * GIB,
    kv=KVGeometry(bytes_per_token=512),
    workload=WorkloadShape(requests=30, prompt_tokens=16_384, concurrency=4),
    host=HostFacts(ram_bytes=64 * GIB),
    ports={"vllm": "10.0.0.1:8000", "master": "10.0.0.9:50051", "metadata": "10.0.0.9:8080"},
)


def ids(subject: Subject) -> list[str]:
    return [finding.id for finding in lint(subject)]


def with_engine(engine: EngineConfig, *others: EngineConfig, **changes: Any) -> Subject:
    return replace(HEALTHY, engines=(engine, *others), **changes)


def args(**changes: str | None) -> EngineConfig:
    merged = {**ARGS, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return replace(ENGINE, args={name: value for name, value in merged.items() if value is not None})


def transfer(**changes: object) -> EngineConfig:
    merged = {name: value for name, value in {**TRANSFER, **changes}.items() if value is not None}
    return args(kv_transfer_config=json.dumps(merged))


def lmcache(**changes: object) -> EngineConfig:
    merged = {name: value for name, value in {**LMCACHE, **changes}.items() if value is not None}
    return replace(ENGINE, lmcache=merged)


def extra(**changes: object) -> EngineConfig:
    return lmcache(extra_config={name: v for name, v in {**EXTRA, **changes}.items() if v is not None})


def second(engine: EngineConfig = ENGINE) -> EngineConfig:
    return replace(engine, name="engine 1")


def versions(**changes: str) -> Mapping[str, str]:
    return {**HEALTHY.versions, **{name.replace("_", "-"): value for name, value in changes.items()}}


def intent(**changes: Any) -> Subject:
    return replace(HEALTHY, intent=Intent(**changes))


STORE = transfer(kv_connector="MooncakeStoreConnector")
MODULE = "kv_connector_module_path"

FAULTS: list[tuple[str, Subject]] = [
    ("E01", with_engine(args(kv_transfer_config=None))),
    ("E01", with_engine(args(kv_transfer_config="{not json"))),
    ("E01", with_engine(args(kv_transfer_config='["a list"]'))),
    ("E01", with_engine(transfer(kv_connector="LMCacheConnector"))),
    ("E01", with_engine(transfer(kv_role=None))),
    ("E02", replace(HEALTHY, versions=versions(vllm="0.6.0"))),
    ("E02", with_engine(STORE, versions=versions(vllm="0.20.2"))),
    ("W03", replace(HEALTHY, versions=versions(vllm="0.26.0"))),
    ("E04", with_engine(replace(ENGINE, device="cpu"))),
    ("E05", with_engine(extra(mooncake_master_server_addr=None))),
    ("E05", with_engine(extra(protocol="rdma", device_name="mlx5_0"))),
    ("W06", with_engine(extra(master_server_address="10.0.0.8:50051"))),
    ("E07", replace(HEALTHY, mp_adapter={"master_server_address": "10.0.0.9:50051", "protocol": "tcp"})),
    ("E07", replace(HEALTHY, mp_adapter={"mooncake_rdma_devices": "mlx5_0"})),
    ("E08", with_engine(replace(ENGINE, mooncake=EXTRA))),
    ("W09", with_engine(lmcache(remote_url="mooncakestore://10.0.0.9:50052/"))),
    ("W09", with_engine(lmcache(remote_url="mooncakestore://other:50051/"))),
    ("E10", with_engine(lmcache(remote_url=None))),
    ("E11", with_engine(lmcache(external_lookup_client="mooncakestore://10.0.0.9:50051"))),
    ("E12", with_engine(lmcache(local_cpu=True))),
    ("E12", with_engine(lmcache(local_cpu=None))),
    ("E12", with_engine(replace(ENGINE, env={**ENGINE.env, "LMCACHE_LOCAL_CPU": "True"}))),
    ("E13", with_engine(lmcache(max_local_cpu_size=0.01))),
    ("E13", with_engine(lmcache(max_local_cpu_size=0))),
    ("E14", with_engine(ENGINE, second(lmcache(chunk_size=512)))),
    ("E14", with_engine(lmcache(chunk_size=192))),
    ("E15", with_engine(replace(lmcache(pre_caching_hash_algorithm=None), env={"PROMETHEUS_MULTIPROC_DIR": "x"}))),
    (
        "E15",
        with_engine(
            lmcache(pre_caching_hash_algorithm=None),
            replace(second(lmcache(pre_caching_hash_algorithm=None)), env={**ENGINE.env, "PYTHONHASHSEED": "1"}),
        ),
    ),
    ("E15", with_engine(ENGINE, second(lmcache(pre_caching_hash_algorithm="builtin")))),
    ("E16", with_engine(ENGINE, second(args(model="qwen")))),
    ("E16", with_engine(ENGINE, second(args(tensor_parallel_size="2")))),
    ("E16", with_engine(ENGINE, second(args(kv_cache_dtype="fp8")))),
    ("E17", with_engine(lmcache(remote_serde="cachegen"))),
    ("E18", with_engine(ENGINE, second(extra(save_chunk_meta=None)))),
    ("W19", with_engine(extra(transfer_timeout=None), host=HostFacts(bandwidth_bytes_per_s=10e6))),
    ("W20", replace(HEALTHY, master_flags={**(HEALTHY.master_flags or {}), "default_kv_lease_ttl": "10"})),
    ("W20", replace(HEALTHY, master_flags={**(HEALTHY.master_flags or {}), "default_kv_lease_ttl": "0.01s"})),
    ("E21", replace(HEALTHY, node_segment_bytes=GIB // 5)),
    ("E22", replace(HEALTHY, host=HostFacts(ram_bytes=64 * GIB, memory_limit_bytes=4 * GIB))),
    (
        "E22",
        with_engine(
            extra(protocol="rdma", mooncake_rdma_devices="mlx5_0", global_segment_size="4GB"),
            host=HostFacts(memlock_bytes=65_536),
        ),
    ),
    ("E23", with_engine(extra(local_hostname="localhost"), replace(second(), host="b"))),
    ("E24", replace(HEALTHY, metadata_reachable=False)),
    ("E24", replace(HEALTHY, master_flags={"rpc_port": "50051"})),
    ("E24", with_engine(ENGINE, second(extra(metadata_server="P2PHANDSHAKE")))),
    ("E25", with_engine(ENGINE, second(extra(protocol="rdma", mooncake_rdma_devices="mlx5_0")))),
    ("W26", with_engine(extra(protocol="rdma", mooncake_rdma_devices="mlx5_0"))),
    (
        "W26",
        with_engine(
            replace(extra(protocol="rdma", mooncake_rdma_devices="mlx5_0"), env={**ENGINE.env, "MC_FORCE_HCA": "1"}),
            host=HostFacts(rdma_devices=()),
        ),
    ),
    ("W27", with_engine(args(enable_prompt_tokens_details=None))),
    ("W27", with_engine(replace(ENGINE, env={"PYTHONHASHSEED": "0"}))),
    (
        "W28",
        with_engine(replace(ENGINE, env={**ENGINE.env, "VLLM_SERVER_DEV_MODE": "1"}), intent=Intent(production=True)),
    ),
    (
        "W28",
        with_engine(
            lmcache(internal_api_server_enabled=True, internal_api_server_host="10.0.0.1"),
            intent=Intent(production=True),
        ),
    ),
    ("E29", with_engine(STORE, intent=Intent(resets_external=True, shared_store=True))),
    ("E30", intent(removes_all=True, foreign_keys=7)),
    ("E31", replace(HEALTHY, ports={"metadata": "10.0.0.9:8080", "lmcache-mp": "10.0.0.9:8080"})),
    ("W32", with_engine(transfer(kv_load_failure_policy=None))),
    ("W33", with_engine(lmcache(save_unfull_chunk=True))),
    ("W33", with_engine(lmcache(min_retrieve_tokens=512))),
    ("W34", replace(HEALTHY, workload=WorkloadShape(requests=1, prompt_tokens=255, concurrency=1))),
    ("W35", with_engine(args(enable_prefix_caching=None))),
    ("W36", with_engine(ENGINE, second(args(max_num_batched_tokens="2048")))),
    ("W37", replace(HEALTHY, model_config={"architectures": ["FalconMambaForCausalLM"]})),
    ("W37", replace(HEALTHY, model_config={"layer_types": ["linear_attention"]})),
    ("W37", replace(HEALTHY, model_config={"index_topk": 2048})),
    ("W37", replace(HEALTHY, model_config={"vision_config": {}})),
    ("W37", with_engine(args(speculative_config='{"method":"mtp"}'))),
    ("W38", intent(injects_faults=True)),
    ("E39", replace(intent(removes_all=True), versions=versions(mooncake_master="0.3.12", mooncake="0.3.12"))),
    ("E39", replace(intent(polls_keys=True), versions=versions(mooncake_master="0.3.11", mooncake="0.3.11"))),
    ("W40", replace(HEALTHY, versions=versions(mooncake_master="0.3.12.post1"))),
    ("W41", intent(separates_tenants=True)),
]


@pytest.mark.parametrize(("rule", "subject"), FAULTS, ids=[f"{rule}-{i}" for i, (rule, _) in enumerate(FAULTS)])
def test_a_rule_finds_its_fault_and_nothing_else_is_an_error(rule: str, subject: Subject) -> None:
    findings = lint(subject)
    mine = [finding for finding in findings if finding.id == rule]
    errors = {finding.id for finding in findings if finding.severity is Severity.ERROR}

    assert mine, f"found only {[finding.id for finding in findings]}"
    assert errors <= {rule}
    for finding in mine:
        assert finding.severity is (Severity.ERROR if rule[0] == "E" else Severity.WARNING)
        assert finding.what
        assert finding.why
        assert finding.fix
        assert "\n" not in finding.what + finding.why + finding.fix


def test_every_rule_has_a_test_and_a_title() -> None:
    assert {rule for rule, _ in FAULTS} == set(RULES)
    assert all(rule.__doc__ for rule in RULES.values())


def test_a_healthy_stack_has_no_findings() -> None:
    assert ids(HEALTHY) == []


def test_two_equal_engines_on_two_hosts_have_no_findings() -> None:
    assert ids(with_engine(ENGINE, replace(second(extra(local_hostname="10.0.0.2")), host="b"))) == []


def test_nothing_is_held_against_what_is_not_known() -> None:
    assert ids(Subject()) == []


def test_a_cpu_engine_with_a_block_connector_of_its_own_is_no_error() -> None:
    local = replace(transfer(kv_connector="LMCacheCPUConnector", **{MODULE: "our.connector"}), device="cpu")

    assert ids(with_engine(local, versions=versions(vllm="0.32.0+cpu"))) == []


def test_the_default_master_needs_no_setting() -> None:
    settings = extra(mooncake_master_server_addr=None, master_server_address="127.0.0.1:50051")

    assert "E05" not in ids(with_engine(settings, master_address=None))


def test_the_older_spelling_is_right_for_older_pairs() -> None:
    old = versions(lmcache="0.4.4")

    assert ids(with_engine(extra(mooncake_master_server_addr=None), versions=old)) == []


def test_the_mooncake_file_replaces_extra_config() -> None:
    clean = lmcache(extra_config={"save_chunk_meta": False})

    assert ids(with_engine(replace(clean, mooncake=EXTRA))) == []


def test_extra_config_may_come_from_the_environment() -> None:
    engine = replace(lmcache(extra_config=None), env={**ENGINE.env, "LMCACHE_EXTRA_CONFIG": json.dumps(EXTRA)})

    assert ids(with_engine(engine)) == []


def test_vllms_own_store_connector_is_not_held_to_lmcaches_rules() -> None:
    engine = replace(STORE, lmcache={}, mooncake={**EXTRA, "global_segment_size": "2GB"})

    assert ids(with_engine(engine)) == []


def test_errors_come_first_and_in_order() -> None:
    found = ids(with_engine(lmcache(local_cpu=True, remote_serde="cachegen", min_retrieve_tokens=1)))

    assert found == ["E12", "E17", "W33"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["vllm", "serve", "m", "--port", "8000"], {"model": "m", "port": "8000"}),
        (["serve", "m", "--dtype=auto", "-pp", "2"], {"model": "m", "dtype": "auto", "pipeline-parallel-size": "2"}),
        (["--enable-prompt-tokens-details", "m"], {"enable-prompt-tokens-details": "true", "model": "m"}),
        (["m", "--no-enable-chunked-prefill"], {"model": "m", "enable-chunked-prefill": "false"}),
        (["m", "--kv_cache_dtype", "fp8"], {"model": "m", "kv-cache-dtype": "fp8"}),
        ([], {}),
    ],
)
def test_vllms_arguments_are_read_as_vllm_reads_them(words: list[str], expected: dict[str, str]) -> None:
    assert parse_vllm_args(words) == expected


@given(st.lists(st.text(max_size=12), max_size=10))
def test_no_arguments_at_all_make_the_reader_stumble(words: list[str]) -> None:
    assert all(isinstance(value, str) for value in parse_vllm_args(words).values())


@pytest.mark.parametrize(
    ("value", "size"),
    [("4GB", 4 * GIB), ("64mb", 64 * 2**20), ("1.5 GiB", 3 * GIB // 2), (7, 7), ("9", 9), ("", None), (None, None)],
)
def test_sizes_are_read_as_mooncake_reads_them(value: object, size: int | None) -> None:
    assert size_bytes(value) == size


def test_versions_are_ordered_by_their_numbers() -> None:
    order = ["0.3.9", "0.3.10.post2", "0.3.12", "0.3.12.post1", "0.32.0+cpu"]

    assert sorted(reversed(order), key=version_key) == order
    assert version_key("unknown") == (0, 0, 0, 0)


def test_json_that_is_no_object_is_no_mapping() -> None:
    assert json_mapping("[1]") is None
    assert json_mapping(None) is None
    assert json_mapping('{"a": 1}') == {"a": 1}


def test_numbers_that_are_none_count_as_the_default() -> None:
    assert ids(with_engine(extra(transfer_timeout="soon"))) == []


def test_a_pool_need_not_hold_shared_chunks_more_than_once() -> None:
    small = replace(HEALTHY, node_segment_bytes=GIB // 5)
    assert "E21" in {finding.id for finding in lint(small)}
    assert HEALTHY.workload is not None
    shared = replace(HEALTHY.workload, distinct_chunks=64)
    assert "E21" not in {finding.id for finding in lint(replace(small, workload=shared))}
