"""Puts eight keys into a Mooncake store, as another tenant of it would."""

from __future__ import annotations

import json
import os
import sys

from mooncake.store import MooncakeDistributedStore

order = json.load(sys.stdin)
store = MooncakeDistributedStore()
settings = {
    "local_hostname": "127.0.0.1",
    "metadata_server": order["metadata"],
    "global_segment_size": "0",
    "local_buffer_size": str(16 * 2**20),
    "protocol": "tcp",
    "rdma_devices": "",
    "master_server_addr": order["master"],
}
code = store.setup(settings)
codes = [store.put(f"other-model@1@0@{i:x}@bfloat16@tenant%b", bytes(1024)) for i in range(8)] if code == 0 else [code]
sys.stdout.flush()
os._exit(int(any(codes)))
