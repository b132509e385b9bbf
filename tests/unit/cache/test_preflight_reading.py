"""Configuration is read from commands and files as people keep them; what nobody told is held against nobody."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.cache.preflight import EngineConfig, Subject, lint, reading
from pytest_mooncake.cache.preflight.reading import engine_of_command, flags_of, mapping_of, split_command
from pytest_mooncake.errors import PlanError
from pytest_mooncake.inspection import told_by_metrics

METRICS = """\
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{_block_size_resolved="True",block_size="16",enable_prefix_caching="True",engine="0"} 1.0
lmcache:num_lookup_tokens_total{model_name="m"} 3.0
"""


def test_the_examples_in_the_docstrings_are_true() -> None:
    results = doctest.testmod(reading)
    assert results.attempted > 0
    assert results.failed == 0


def test_variables_in_front_of_a_command_and_exported_above_it_are_its_environment() -> None:
    env, words = split_command(
        "#!/bin/sh\nexport PYTHONHASHSEED=0\nLMCACHE_CHUNK_SIZE=256 exec vllm serve 'my model' \\\n  --port 8000\n",
        "run.sh",
    )
    assert env == {"PYTHONHASHSEED": "0", "LMCACHE_CHUNK_SIZE": "256"}
    assert words == ("vllm", "serve", "my model", "--port", "8000")


def test_an_open_quotation_mark_is_named_with_its_file() -> None:
    with pytest.raises(PlanError, match=r"run\.sh: not a command line"):
        split_command("vllm serve 'm", "run.sh")


@given(st.text(max_size=200))
def test_any_text_is_split_or_refused(text: str) -> None:
    try:
        env, words = split_command(text, "x")
    except PlanError:
        return
    assert all(isinstance(word, str) for word in (*env, *words))


@pytest.mark.parametrize(
    ("text", "source", "message"),
    [
        ("a: [1", "lmcache.yaml", r"lmcache\.yaml:1: not YAML"),
        ("- a", "lmcache.yaml", "expected settings"),
        ("{", "mooncake.json", r"mooncake\.json: not JSON"),
        ("[]", "mooncake.json", "expected settings"),
        ("!!python/object/apply:os.system [ls]", "lmcache.yaml", "not YAML"),
    ],
)
def test_files_that_hold_no_settings_are_refused_by_name(text: str, source: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        mapping_of(text, source)


def test_settings_are_read_from_yaml_and_json() -> None:
    assert mapping_of("chunk_size: 256\nlocal_cpu: false\n", "l.yaml") == {"chunk_size": 256, "local_cpu": False}
    assert mapping_of('{"protocol": "rdma"}', "m.json") == {"protocol": "rdma"}


def test_flags_of_the_master_are_read_in_all_spellings() -> None:
    words = ["mooncake_master", "--rpc_port", "50051", "-enable_ha=false", "--metrics-port=9003"]
    assert flags_of(words) == {"rpc_port": "50051", "enable_ha": "false", "metrics_port": "9003"}


def test_an_engine_of_which_little_is_known_is_not_condemned_for_what_was_not_told() -> None:
    attached = told_by_metrics("engine 0", METRICS)
    assert attached.args["enable-prefix-caching"] == "true"
    assert attached.args["block-size"] == "16"
    assert attached.uses_lmcache
    found = {finding.id for finding in lint(Subject(engines=(attached,), versions={"vllm": "0.32.0"}))}
    assert found == {"W03", "W35"}, "what is known is judged: the version pair, and prefix caching"


def test_an_engine_that_shows_nothing_has_no_findings() -> None:
    silent = told_by_metrics("engine 0", "")
    assert lint(Subject(engines=(silent, EngineConfig(name="engine 1", unknown=silent.unknown)))) == ()


def test_settings_told_by_lmcache_itself_are_judged() -> None:
    told = told_by_metrics("engine 0", METRICS, lmcache={"local_cpu": True, "remote_url": "mooncakestore://m/"})
    assert "E12" in {finding.id for finding in lint(Subject(engines=(told,)))}


def test_without_lmcaches_file_its_settings_are_unknown_and_without_variables_the_seed_is() -> None:
    words = ("vllm", "serve", "m", "--kv-transfer-config", '{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both"}')
    bare = engine_of_command(words, {}, name="engine 0", lmcache=None)
    assert {f.id for f in lint(Subject(engines=(bare,)))}.isdisjoint({"E10", "E12", "E15"})
    told = engine_of_command(words, {"LMCACHE_CHUNK_SIZE": "256"}, name="engine 0", lmcache={})
    assert {"E10", "E12", "E15"} <= {f.id for f in lint(Subject(engines=(told,)))}
