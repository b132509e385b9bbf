"""What the parts of a stack know: connectors of vLLM, settings of LMCache and of Mooncake, by name."""

from __future__ import annotations

import difflib
from collections.abc import Collection

__all__ = [
    "FLOATS",
    "GONE",
    "HASHES",
    "INTEGERS",
    "LMCACHE_KEYS",
    "LMCACHE_VARIABLES",
    "MP_ADAPTER_KEYS",
    "OTHERS",
    "OWN_STORE_KEYS",
    "PROTOCOLS",
    "SETUP_KEYS",
    "SINCE",
    "STORE_KEYS",
    "SWITCHES",
    "is_extra_key",
    "is_variable",
    "nearest",
]

SINCE = {
    "LMCacheConnectorV1": "0.8.5",
    "LMCacheMPConnector": "0.11.1",
    "MooncakeConnector": "0.13.0",
    "MooncakeStoreConnector": "0.21.0",
}
"""First vLLM release of each connector. Source: vLLM's `kv_connector/factory.py` by release."""

OTHERS = frozenset(
    {"DecodeBenchConnector", "ExampleConnector", "ExampleHiddenStatesConnector", "FlexKVConnectorV1"}
    | {"HF3FSKVConnector", "HiSparseConnector", "MoRIIOConnector", "MultiConnector", "NixlConnector"}
    | {"NixlPullConnector", "NixlPushConnector", "OffloadingConnector", "P2pNcclConnector"}
    | {"SharedStorageConnector", "SimpleCPUOffloadConnector"}
)
"""Connectors that vLLM has or had in V1 and this project has no formulae for."""

GONE = frozenset({"LMCacheConnector", "PyNcclConnector"})
"""Connectors of vLLM's V0 engine."""

HASHES = frozenset({"builtin", "sha256", "sha256_cbor", "sha256_cbor_64bit", "xxhash", "xxhash_cbor"})
"""Hash functions that vLLM has by name; LMCache falls back to Python's for any other."""

PROTOCOLS = frozenset(
    {"tcp", "rdma", "nvlink", "nvlink_intra", "ascend", "barex", "cxl", "efa", "hip", "maca", "musa", "nvmeof"}
    | {"sunrise_link", "ubshmem", "rpc_only", "ub"}
)
"""Transports by the names that Mooncake 0.3.13 compares them with, case included."""

SWITCHES = frozenset(
    {"local_cpu", "local_cpu_use_hugepages", "use_layerwise", "save_decode_cache", "enable_blending", "enable_p2p"}
    | {"enable_controller", "enable_pd", "pd_skip_proxy_notification", "pd_bidirectional", "use_gds"}
    | {"save_unfull_chunk", "py_enable_gc", "enable_async_loading", "internal_api_server_enabled"}
    | {"enable_scheduler_bypass_lookup", "run_script_api_enabled", "enable_lazy_memory_allocator"}
    | {"enable_chunk_statistics", "chunk_statistics_auto_start_statistics", "enable_kv_events"}
    | {"use_gpu_connector_v3", "enable_hidden_state_cache"}
)
INTEGERS = frozenset(
    {"chunk_size", "blend_min_tokens", "mp_port", "lmcache_worker_heartbeat_delay_time", "pd_max_prefill_len"}
    | {"lmcache_worker_heartbeat_time", "pd_buffer_size", "pd_proxy_port", "nixl_buffer_size", "gds_buffer_size"}
    | {"blocking_timeout_secs", "internal_api_server_port_start", "priority_limit", "lookup_timeout_ms"}
    | {"min_retrieve_tokens", "chunk_statistics_auto_exit_target_unique_chunks", "pin_timeout_sec"}
    | {"pin_check_interval_sec"}
)
FLOATS = frozenset(
    {"max_local_cpu_size", "reserve_local_cpu_size", "max_local_disk_size", "pd_shutdown_timeout_sec"}
    | {"pd_condition_poll_interval_sec", "maru_pool_size", "hit_miss_ratio", "lazy_memory_initial_ratio"}
    | {"lazy_memory_expand_trigger_ratio", "lazy_memory_step_ratio", "lazy_memory_safe_size"}
    | {"chunk_statistics_auto_exit_timeout_hours", "max_hidden_state_cpu_size"}
)
_OF_056 = (
    SWITCHES
    | INTEGERS
    | FLOATS
    | {"local_disk", "local_disk_path_sharding", "remote_url", "remote_serde", "pre_caching_hash_algorithm"}
    | {"blend_recompute_ratios", "blend_thresholds", "blend_check_layers", "blend_special_str", "store_location"}
    | {"retrieve_locations", "p2p_host", "p2p_init_ports", "p2p_lookup_ports", "mp_host", "lmcache_instance_id"}
    | {"controller_pull_url", "controller_reply_url", "lmcache_worker_ports", "lmcache_worker_ids", "pd_role"}
    | {"pd_buffer_device", "pd_peer_host", "pd_peer_init_port", "pd_peer_alloc_port", "pd_peer_query_port"}
    | {"pd_proxy_host", "pd_allocation_timeout_sec", "pd_backend_mode", "transfer_channel", "nixl_backends"}
    | {"nixl_buffer_device", "gds_path", "gds_path_sharding", "maru_path", "gds_backend", "extra_config"}
    | {"audit_actual_remote_url", "internal_api_server_host", "external_lookup_client", "cache_policy", "numa_mode"}
    | {"internal_api_server_include_index_list", "internal_api_server_socket_path_prefix", "storage_plugins"}
    | {"runtime_plugin_locations", "remote_storage_plugins", "lookup_server_worker_ids", "script_allowed_imports"}
    | {"chunk_statistics_strategy", "remote_config_url", "app_id", "hidden_state_layers"}
    | {"hidden_states_retrieve_mode"}
)
_OLDER = frozenset(
    {"enable_xpyd", "nixl_peer_host", "nixl_peer_init_port", "nixl_peer_alloc_port", "nixl_peer_port", "nixl_role"}
    | {"nixl_proxy_host", "nixl_proxy_port", "controller_url", "lmcache_worker_port", "plugin_locations"}
    | {"external_backends", "error_handling", "distributed_url", "enable_nixl", "nixl_receiver_host", "weka_path"}
    | {"nixl_receiver_port", "nixl_buffer_size", "nixl_enable_gc", "cufile_buffer_size", "backend_type"}
)
LMCACHE_KEYS = _OF_056 | _OLDER
"""The 108 settings of LMCache 0.5.6, those it still takes under an old name, and some that only older ones had."""

LMCACHE_VARIABLES = frozenset(
    {"CONFIG_FILE", "USE_EXPERIMENTAL", "TRACK_USAGE", "LOG_LEVEL", "FORCE_SKIP_SAVE", "DEVICE_BACKEND", "MQ_TIMEOUT"}
    | {"MP_TRANSFER_MODE", "SERVER_URL", "DISABLE_BANNER", "USE_UPSTREAM_MP", "CONTROLLER_CONFIG_FILE", "VERSION"}
    | {"GPU_STAGING_BUFFER_BYTES", "OFFLOAD_RPC_PORT", "USAGE_TRACK_INTERVAL", "USAGE_TRACK_URL"}
)
"""Variables of LMCache that are no settings, without `LMCACHE_`; further ones begin with a word of `_FREE`."""

_FREE: tuple[str, ...] = (
    "EC_",
    "PLUGIN_",
    "RUNTIME_PLUGIN_",
    "COORDINATOR_",
    "CONTROLLER_",
    "RESP_",
    "AEROSPIKE_",
    "REQUEST_",
)
_FREE += ("ROCM_", "MUSA_")


def is_variable(name: str) -> bool:
    """Whether LMCache reads `LMCACHE_<name>`, as a setting or otherwise.

    >>> is_variable("LOCAL_CPU"), is_variable("CONFIG_FILE"), is_variable("LOCALCPU")
    (True, True, False)
    """
    return name.lower() in LMCACHE_KEYS or name in LMCACHE_VARIABLES or name.startswith(_FREE)


STORE_KEYS = frozenset(
    {"local_hostname", "metadata_server", "global_segment_size", "local_buffer_size", "protocol", "device_name"}
    | {"master_server_address"}
)
"""Keys that LMCache hands to Mooncake without a prefix."""

SETUP_KEYS = frozenset(
    {"local_hostname", "metadata_server", "global_segment_size", "local_buffer_size", "protocol", "rdma_devices"}
    | {"master_server_addr", "tenant_id", "enable_ssd_offload", "ssd_offload_path", "enable_client_http_server"}
    | {"client_http_port", "ipc_socket_path"}
)
"""Keys of Mooncake's own `setup()`: LMCache hands over `mooncake_<key>`."""

_LMCACHES_EXTRA = frozenset(
    {"transfer_timeout", "storage_root_dir", "save_chunk_meta", "use_exists_sync", "prefer_local_alloc"}
    | {"save_only_first_rank", "force_store_wait", "enable_nixl_storage", "enable_cache_usage_details_in_response"}
    | {"audit_actual_remote_url", "audit_calc_checksum", "audit_verify_checksum", "audit_exclude_cmds"}
    | {"audit_backend_enabled", "connection_timeout", "request_timeout", "disk_io_threads", "enable_sparse"}
    | {"first_rank_max_local_cpu_size", "gpu_to_numa_mapping", "heartbeat_url", "infinistore_link_type"}
    | {"lmcache_rpc_port", "lookup_backoff_time", "resp_num_threads", "shm_name", "tls_enable", "disable_tls"}
    | {"use_direct_io", "use_odirect", "username", "password", "redis_url", "bucket"}
    | {"worker_socket_recv_timeout_ms", "worker_socket_send_timeout_ms", "kv_msg_batch_size", "kv_msg_batch_timeout"}
    | {"internal_api_server_access_log", "internal_api_server_log_level", "log_level"}
)
_LMCACHES_OWN_MOONCAKE = frozenset({"transfer_timeout", "storage_root_dir", "prefer_local_alloc"})
_PLUGINS: tuple[str, ...] = (
    "nixl_",
    "s3_",
    "valkey_",
    "fs_",
    "aws_",
    "azure_",
    "hf3fs_",
    "sagemaker_",
    "chunk_statistics_",
    "gds_",
)
_PLUGINS += ("full_sync_", "weka_", "maru_", "remote_", "storage_plugin", "external_", "infini", "eic_", "blend")

EXTRA_KEYS = STORE_KEYS | _LMCACHES_EXTRA | {f"mooncake_{key}" for key in SETUP_KEYS | _LMCACHES_OWN_MOONCAKE}


def is_extra_key(key: str) -> bool:
    """Whether somebody may read a key of LMCache's `extra_config` (plugins keep theirs there too).

    >>> is_extra_key("mooncake_rdma_devices"), is_extra_key("s3_region"), is_extra_key("rdma_devices")
    (True, True, False)
    """
    return key in EXTRA_KEYS or "." in key or key.startswith(_PLUGINS)


OWN_STORE_KEYS = frozenset(
    {"metadata_server", "master_server_address", "protocol", "device_name", "mode", "global_segment_size"}
    | {"local_buffer_size", "enable_offload", "tenant_id", "device_name_per_gpu"}
)
"""Keys of the JSON of vLLM's MooncakeStoreConnector."""

MP_ADAPTER_KEYS = SETUP_KEYS | {"type", "num_workers", "eviction", "per_op_workers"}
"""Keys of the `mooncake_store` adapter of LMCache's MP server; all but the last four go to Mooncake as they are."""


def nearest(key: str, known: Collection[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name that a key may have been meant for.

    >>> nearest("local_cpus", LMCACHE_KEYS), nearest("zzz", LMCACHE_KEYS)
    ('local_cpu', None)
    """
    found = difflib.get_close_matches(key, sorted(known), n=1, cutoff=cutoff)
    return found[0] if found else None
