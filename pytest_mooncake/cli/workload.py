"""`pytest-mooncake workload`: what a workload asks of a cache, before anything is sent or bought. Sends nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pytest_mooncake.errors import PlanError, UsageError

workload_app = typer.Typer(no_args_is_help=True)


@workload_app.callback()
def workload() -> None:
    """Workloads and traces: look before you send."""


@workload_app.command("describe")
def describe(
    named: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="Name or YAML file of a workload, or a trace (FILE.jsonl, FILE.jsonl.gz, trace:PATH?key=value).",
        ),
    ],
    config: Annotated[Path | None, typer.Option(help="The model's config.json, from which KV bytes follow.")] = None,
    kv_bytes_per_token: Annotated[
        int | None, typer.Option(min=1, help="KV cache of one token over all ranks; sizes are in tokens without it.")
    ] = None,
    chunk_tokens: Annotated[int, typer.Option(min=1, help="Tokens in a cache chunk.")] = 256,
    max_model_len: Annotated[int | None, typer.Option(min=1, help="Context that a trace is clipped to.")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="As --mooncake-requests.")] = None,
    prompt_tokens: Annotated[int | None, typer.Option(min=1, help="As --mooncake-prompt-tokens.")] = None,
) -> None:
    """Lengths, arrivals, planned reuse, working set, and the hit rate that a store of a given size would have."""
    from pytest_mooncake.plan.options import Options
    from pytest_mooncake.plan.sources.workload import TRACE, workload_of
    from pytest_mooncake.workload.build import layout_of
    from pytest_mooncake.workload.describe import TRACE_ENDINGS
    from pytest_mooncake.workload.describe import describe as described

    here = Path.cwd()
    value = f"trace:{named}" if named.endswith(TRACE_ENDINGS) and not named.startswith(TRACE) else named
    plan = workload_of(Options(workload=value, requests=_text(requests), prompt_tokens=_text(prompt_tokens)), here)
    layout = layout_of(plan, max_model_len=max_model_len, chunk_tokens=chunk_tokens, base=here)
    each = _kv_bytes(config, kv_bytes_per_token)
    typer.echo(described(plan, layout, kv_bytes_per_token=each, chunk_tokens=chunk_tokens), nl=False)


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _kv_bytes(config: Path | None, given: int | None) -> int | None:
    if config is None:
        return given
    if given is not None:
        raise UsageError("--config tells the KV bytes of a token: leave out --kv-bytes-per-token, or --config")
    import json

    from pytest_mooncake.analysis.audit.model.geometry import geometry_of
    from pytest_mooncake.plan.sources.hardware import MOST_CONFIG_BYTES
    from pytest_mooncake.plan.sources.yaml_text import read_bounded

    try:
        shape = geometry_of(json.loads(read_bounded(config, MOST_CONFIG_BYTES)))
    except PlanError as error:
        raise PlanError(f"--config {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise PlanError(f"--config {config}: not a model's config.json ({error}); give Hugging Face's file") from None
    for doubt in shape.doubts:
        typer.echo(f"--config {config}: {doubt}; --kv-bytes-per-token tells them without it", err=True)
    return shape.kv_bytes_per_token
