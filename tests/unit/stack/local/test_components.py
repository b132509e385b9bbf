"""What the processes of a local stack are started with."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace

import pytest
import yaml

from pytest_mooncake.stack.local import components
from pytest_mooncake.stack.local.components import Ports
from tests.support.local_site import make_plan, make_site


def option(argv: tuple[str, ...], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_every_port_is_given_to_exactly_one_listener() -> None:
    plan = make_plan(store={"nodes": 3}, engine={"count": 2})
    ports = make_site(plan).ports
    given = [ports.rpc, ports.admin, ports.metadata, *ports.nodes, *ports.node_http, *ports.engines]
    assert len(ports.nodes) == len(ports.node_http) == 3
    assert len(ports.engines) == 2
    assert len(set(given)) == len(given) == Ports.count(plan)


def test_lmcaches_internal_api_is_on_only_where_it_can_clear_something_and_nobody_else_gets_at_it() -> None:
    """It runs whatever code is sent to it."""
    keeping = make_plan(connector={"local_cpu": True}, engine={"count": 2})
    for plan, is_apart in ((make_plan(), True), (keeping, False)):
        settings = components.lmcache_settings(plan, replace(make_site(plan), is_apart=is_apart), 0)
        assert not any("internal_api" in name for name in settings)
    site = replace(make_site(keeping), is_apart=True)
    first, second = (components.lmcache_settings(keeping, site, index) for index in range(2))
    for index, settings in enumerate((first, second)):
        assert settings["internal_api_server_host"] == "127.0.0.1"
        worker = settings["internal_api_server_port_start"] + settings["internal_api_server_include_index_list"][0]
        assert worker == site.ports.lmcache[index], "rank 0 adds one to the scheduler's port"
    given = {site.ports.rpc, site.ports.admin, site.ports.metadata, *site.ports.engines, *site.ports.lmcache}
    assert len(given) == 7
    files = {components.engine(keeping, site, index, fork=False).env["LMCACHE_CONFIG_FILE"] for index in range(2)}
    assert len(files) == 2


@pytest.mark.parametrize(
    ("caching", "is_apart", "dev"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_vllms_development_endpoints_are_on_only_where_a_prefix_cache_can_be_reset_and_nobody_else_gets_at_them(
    caching: bool, is_apart: bool, dev: bool
) -> None:
    plan = make_plan(engine={"prefix_caching": caching})
    site = replace(make_site(plan), is_apart=is_apart)
    assert ("VLLM_SERVER_DEV_MODE" in components.engine_env(plan, site, 0, fork=True)) is dev


def test_the_master_serves_metadata_and_holds_leases_as_planned() -> None:
    plan = make_plan(store={"lease_ttl_ms": 1234})
    argv = components.master(plan, make_site(plan)).argv
    assert "-enable_http_metadata_server=true" in argv
    assert "-default_kv_lease_ttl=1234" in argv
    assert "-rpc_address=127.0.0.1" in argv
    assert "-metrics_host=127.0.0.1" in argv


def test_each_node_has_ports_and_a_log_of_its_own_and_lends_what_is_planned() -> None:
    plan = make_plan(store={"nodes": 2, "segment_bytes": 1 << 30})
    site = make_site(plan)
    first, second = (components.node(plan, site, index) for index in range(2))
    assert (first.name, second.name) == ("node-0", "node-1")
    assert first.log != second.log
    assert not {arg for arg in first.argv if "port=" in arg} & {arg for arg in second.argv if "port=" in arg}
    assert f"-global_segment_size={1 << 30}" in first.argv
    assert f"-master_server_address=127.0.0.1:{site.ports.rpc}" in first.argv


def test_lmcache_is_told_the_master_in_both_spellings_and_lends_no_memory_itself() -> None:
    plan = make_plan(connector={"chunk_tokens": 128, "local_cpu": True})
    site = make_site(plan)
    settings = yaml.safe_load(yaml.safe_dump(components.lmcache_settings(plan, site, 0)))
    extra = settings["extra_config"]
    assert extra["master_server_address"] == extra["mooncake_master_server_addr"] == site.master_address
    assert {"device_name", "mooncake_rdma_devices"} <= set(extra)
    assert extra["global_segment_size"] == 0
    assert extra["metadata_server"] == f"http://127.0.0.1:{site.ports.metadata}/metadata"
    assert settings["chunk_size"] == 128
    assert settings["local_cpu"] is True
    assert settings["save_unfull_chunk"] is False


def test_the_engine_loads_our_connector_and_says_what_a_failed_load_means() -> None:
    plan = make_plan()
    argv = components.engine(plan, make_site(plan), 0, fork=True).argv
    transfer = json.loads(option(argv, "--kv-transfer-config"))
    assert transfer["kv_connector_module_path"] == "pytest_mooncake.stack.local.inside.connector"
    assert transfer["kv_load_failure_policy"] in {"fail", "recompute"}
    assert option(argv, "--host") == "127.0.0.1"
    assert "--enable-prompt-tokens-details" in argv


def test_an_engine_without_a_cache_gets_no_connector() -> None:
    plan = make_plan(connector={"kind": "none"})
    command = components.engine(plan, make_site(plan), 0, fork=True)
    assert "--kv-transfer-config" not in command.argv
    assert "PYTEST_MOONCAKE_PRELOAD" not in command.env


@pytest.mark.parametrize(("wanted", "flag"), [(False, "--no-enable-prefix-caching"), (True, "--enable-prefix-caching")])
def test_prefix_caching_is_off_unless_the_plan_says_so(wanted: bool, flag: str) -> None:
    plan = make_plan(engine={"prefix_caching": wanted})
    assert flag in components.engine_arguments(plan, make_site(plan), 0)


def test_both_ways_to_start_serve_the_same_model_with_the_same_arguments() -> None:
    plan = make_plan(engine={"extra_args": ["--seed", "7"]})
    site = make_site(plan)
    fork, plain = (components.engine(plan, site, 0, fork=fork).argv for fork in (True, False))
    assert fork[2] == "pytest_mooncake.stack.local.inside.serve"
    assert plain[2] == "vllm.entrypoints.cli.main"
    assert fork[3:] == plain[3:]
    assert fork[-2:] == ("--seed", "7")


def test_nothing_of_the_users_environment_reaches_a_component_that_could_change_what_is_measured() -> None:
    plan = make_plan()
    stray = {
        "LMCACHE_LOCAL_CPU": "true",
        "MOONCAKE_CONFIG_PATH": "/etc/mooncake.json",
        "VLLM_USE_V1": "0",
        "MC_STORE_LOCAL_HOT_CACHE_SIZE": "1",
        "http_proxy": "http://proxy",
        "PYTHONDONTWRITEBYTECODE": "1",
        "API_KEY": "secret",
        "PATH": "/usr/bin",
    }
    site = make_site(plan, stray)
    for command in (
        components.master(plan, site),
        components.node(plan, site, 0),
        components.engine(plan, site, 0, fork=True),
    ):
        assert command.env["PATH"] == "/usr/bin"
        assert "secret" not in command.env.values()
        assert not {"LMCACHE_LOCAL_CPU", "MOONCAKE_CONFIG_PATH", "VLLM_USE_V1", "http_proxy"} & set(command.env)
        assert "PYTHONDONTWRITEBYTECODE" not in command.env
        assert command.env["NO_PROXY"] == "127.0.0.1,localhost"


def test_engines_that_join_a_running_store_are_all_that_is_started() -> None:
    plan = make_plan(store_url="mooncakestore://10.0.0.9:50051")
    store = components.RunningStore.of(plan)
    assert store == components.RunningStore(
        rpc_address="10.0.0.9:50051", admin_url="http://10.0.0.9:9003", metadata_url="http://10.0.0.9:8080/metadata"
    )
    site = dataclasses.replace(make_site(plan), store=store)
    assert Ports.count(plan) == 3 + 1
    assert site.ports.nodes == ()
    settings = components.lmcache_settings(plan, site, 0)["extra_config"]
    assert settings["mooncake_master_server_addr"] == "10.0.0.9:50051"
    assert settings["metadata_server"] == "http://10.0.0.9:8080/metadata"
    assert components.admin_url(site) == "http://10.0.0.9:9003"


def test_the_places_of_a_running_store_that_are_told_win() -> None:
    told = {"master_url": "http://h:1/", "metadata_url": "http://h:2/metadata"}
    store = components.RunningStore.of(make_plan(store_url="mooncakestore://h:50051", **told))
    assert store is not None
    assert (store.admin_url, store.metadata_url) == ("http://h:1", "http://h:2/metadata")
    assert components.RunningStore.of(make_plan()) is None


def test_vllms_own_connector_reads_its_file_and_gives_no_memory_to_the_pool() -> None:
    plan = make_plan(connector={"kind": "mooncakestore", "chunk_tokens": 128})
    site = make_site(plan)
    env = components.engine_env(plan, site, 0, fork=True)
    assert env["MOONCAKE_CONFIG_PATH"] == "/tmp/run/mooncake.json"
    assert "LMCACHE_CONFIG_FILE" not in env
    assert "PYTEST_MOONCAKE_PRELOAD" not in env
    transfer = json.loads(option(components.engine_arguments(plan, site, 0), "--kv-transfer-config"))
    assert transfer["kv_connector"] == "MooncakeStoreConnector"
    assert "kv_connector_module_path" not in transfer
    settings = components.mooncake_settings(plan, site)
    assert (settings["mode"], settings["global_segment_size"]) == ("standalone-store", 0)
    assert settings["master_server_address"] == site.master_address
    assert settings["protocol"] == "tcp"


def test_engines_may_be_given_different_hash_seeds_on_purpose() -> None:
    plan = make_plan(engine={"count": 3, "hash_seed": [0, 1]})
    site = make_site(plan)
    seeds = [components.engine_env(plan, site, index, fork=True)["PYTHONHASHSEED"] for index in range(3)]
    assert seeds == ["0", "1", "0"]


def test_engines_hash_alike_but_share_no_directory() -> None:
    plan = make_plan(engine={"count": 2, "hash_seed": 5})
    site = make_site(plan)
    first, second = (components.engine_env(plan, site, index, fork=True) for index in range(2))
    assert first["PYTHONHASHSEED"] == second["PYTHONHASHSEED"] == "5"
    for name in ("TMPDIR", "PROMETHEUS_MULTIPROC_DIR", "VLLM_RPC_BASE_PATH"):
        assert first[name] != second[name]
        assert first[name].startswith(str(site.run_dir))


def test_the_plans_own_variables_win() -> None:
    plan = make_plan(engine={"extra_env": {"OMP_NUM_THREADS": "1"}})
    assert components.engine_env(plan, make_site(plan), 0, fork=True)["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("cores", "engines", "threads"), [(1, 1, 1), (2, 1, 2), (2, 2, 1), (8, 1, 7), (8, 2, 3), (64, 1, 16), (2, 4, 1)]
)
def test_engines_share_the_cores_and_leave_the_client_one_where_there_are_many(
    cores: int, engines: int, threads: int
) -> None:
    assert components.engine_threads(cores, engines) == threads
