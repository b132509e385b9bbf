"""`python -m pytest_mooncake.stack.local.inside.serve serve MODEL ...` is `vllm serve MODEL ...`, started by forking.

vLLM's CPU platform starts EngineCore and worker with "spawn": three processes, one after the other, each importing the
same 15 s of Python. Here everything is imported once, and the other two are forked from this process (50 s become 10).

Forking after imports is safe only while no OpenMP thread pool exists in the parent: the caller preloads libiomp5 and
sets `OMP_NUM_THREADS` and `VLLM_CPU_OMP_THREADS_BIND=nobind`. Whoever starts this falls back to plain `vllm serve` when
it does not get ready.
"""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable
from typing import Any

PRELOAD = (
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.engine.async_llm",
    "vllm.v1.attention.backends.cpu_attn",
    "vllm.model_executor.models.qwen3",
)
HANDED_OVER = "[launcher] everything is imported, handing over to vLLM"


def fork_instead_of_spawn() -> None:
    """Make vLLM's own choice of a start method give "fork"; before any module binds the function's name."""
    import vllm.utils.system_utils as system

    context = multiprocessing.get_context("fork")
    system.get_mp_context = lambda: context


def hide_numba_from_kernel_scan() -> None:
    """Let vLLM's scan of `sys.modules` not see numba and llvmlite.

    LMCache imports numba before the worker starts; the scan then trips over llvmlite's ctypes wrappers
    (`'_lib_fn_wrapper' object has no attribute 'get'`).
    """
    import vllm.triton_utils.dispatcher as dispatcher

    scan: Callable[[Any], None] = dispatcher._rebind_kernels

    def rebind(overrides: Any) -> None:
        hidden = {
            name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in {"llvmlite", "numba"}
        }
        try:
            scan(overrides)
        finally:
            sys.modules.update(hidden)

    dispatcher._rebind_kernels = rebind


def main() -> None:
    """Import everything, then become `vllm`."""
    fork_instead_of_spawn()
    hide_numba_from_kernel_scan()
    for module in (*PRELOAD, *os.environ.get("PYTEST_MOONCAKE_PRELOAD", "").split()):
        importlib.import_module(module)
    gc.freeze()  # what is imported stays: the children's collectors need not touch (and so copy) its pages
    from vllm.entrypoints.cli.main import main as vllm

    print(HANDED_OVER, flush=True)
    sys.argv[0] = "vllm"
    vllm()


if __name__ == "__main__":
    main()
