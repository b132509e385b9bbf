"""The master's admin port: Mooncake's counters, keys, health and the button that removes everything."""

from __future__ import annotations

from aiohttp import web

from pytest_mooncake.stack.simulated.engine.api import metrics_response
from pytest_mooncake.stack.simulated.faults import Faults
from pytest_mooncake.stack.simulated.store import SimulatedStore, exposition


class MasterApi:
    """Handlers of the admin port.

    Args:
        store: what they show.
        faults: `no_store_metrics` acts here.
    """

    def __init__(self, store: SimulatedStore, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/health", self._health),
                web.get("/role", self._role),
                web.get("/get_all_keys", self._all_keys),
                web.get("/batch_query_keys", self._batch_query_keys),
                web.get("/get_all_segments", self._all_segments),
                web.post("/api/v1/remove_all", self._remove_all),
            ]
        )
        if not self._faults.no_store_metrics:
            app.router.add_get("/metrics", self._metrics)
        return app

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "status": "ok",
                "role": "leader",
                "ha_state": "serving",
                "service_ready": True,
                "leader_address": "",
                "view_version": 0,
            }
        )

    async def _role(self, _request: web.Request) -> web.Response:
        return web.Response(text="leader")

    async def _metrics(self, _request: web.Request) -> web.Response:
        return metrics_response(exposition(self._store).encode())

    async def _all_keys(self, _request: web.Request) -> web.Response:
        return web.Response(text="".join(f"{key}\n" for key in self._store.keys))

    async def _all_segments(self, _request: web.Request) -> web.Response:
        return web.Response(text="".join(f"{name}\n" for name, _ in self._store.segment_bytes_used()))

    async def _batch_query_keys(self, request: web.Request) -> web.Response:
        keys = [key for key in request.query.get("keys", "").split(",") if key]
        if not keys:
            return web.json_response({"success": False, "error_message": "no keys"}, status=400)
        return web.json_response({"success": True, "data": {key: self._replicas(key) for key in keys}})

    def _replicas(self, key: str) -> dict[str, object]:
        if key not in self._store:
            return {"ok": False, "error": "OBJECT_NOT_FOUND"}
        place = {"size_": self._store.shape.object_bytes, "protocol_": "tcp", "transport_endpoint_": "127.0.0.1:12300"}
        return {"ok": True, "values": [place], "disk_values": [], "local_disk_values": [], "nof_values": []}

    async def _remove_all(self, request: web.Request) -> web.Response:
        count = self._store.remove_all(force=request.query.get("force") == "true")
        return web.json_response({"success": True, "removed_count": count})
