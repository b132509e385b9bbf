"""The process that removes keys: reads an order from stdin, writes one line of JSON. See `cache.remove_keys`."""

from __future__ import annotations

import json
import os
import sys

__all__ = ["main"]


def main() -> None:
    """Join the store without giving memory to it, remove the keys that match, and say how many."""
    print(json.dumps(_remove(json.loads(sys.stdin.read()))), flush=True)
    # The library's threads can keep or crash an interpreter that ends in the usual way.
    os._exit(0)


def _remove(order: dict[str, str]) -> dict[str, object]:
    try:
        from mooncake.store import MooncakeDistributedStore
    except ImportError as problem:
        return {"problem": f"Mooncake's client library is not installed here, so the keys stay ({problem})"}
    store = MooncakeDistributedStore()
    code = store.setup(
        {
            "local_hostname": order["local_hostname"],
            "metadata_server": order["metadata_server"],
            "global_segment_size": "0",
            "local_buffer_size": str(16 * 2**20),
            "protocol": order["protocol"],
            "rdma_devices": "",
            "master_server_addr": order["master_server_addr"],
        }
    )
    if code:
        return {"problem": f"Mooncake's client could not join {order['master_server_addr']} (error {code})"}
    removed = store.remove_by_regex(order["pattern"], True)
    if removed < 0:
        return {"problem": f"the master removed nothing (error {removed})"}
    return {"removed": removed}


if __name__ == "__main__":
    main()
