"""Joins a Mooncake store and exchanges the bytes of matching objects with each other's, until it is killed."""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.request

from mooncake.store import MooncakeDistributedStore

order = json.loads(sys.stdin.readline())
store = MooncakeDistributedStore()
settings = {
    "local_hostname": "127.0.0.1",
    "metadata_server": order["metadata"],
    "global_segment_size": "0",
    "local_buffer_size": str(64 * 2**20),
    "protocol": "tcp",
    "rdma_devices": "",
    "master_server_addr": order["master"],
}
if code := store.setup(settings):
    raise SystemExit(f"could not join: {code}")
print("joined", flush=True)
pattern, done = re.compile(order["pattern"]), set()
while True:
    with urllib.request.urlopen(order["keys_url"], timeout=5) as response:
        keys = response.read().decode().split("\n")
    for key in keys:
        if key not in done and pattern.search(key):
            value = store.get(key)
            if not value:
                continue  # still being written
            half = len(value) // 2
            store.remove(key, True)
            store.put(key, bytes(value[half:]) + bytes(value[:half]))  # plausible numbers in the wrong place
            done.add(key)
    time.sleep(0.1)
