"""Configuration is read from scripts, files and manifests as people keep them; what is none of them is refused."""

from __future__ import annotations

import doctest
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from pytest_mooncake.cli import app
from pytest_mooncake.errors import MooncakeError, PlanError
from pytest_mooncake.stack.preflight import EngineConfig, Subject, configuration, known, lint, values
from pytest_mooncake.stack.preflight.configuration import Fact, Facts
from pytest_mooncake.stack.preflight.sources import commands, documents, engines, live, shell
from pytest_mooncake.stack.preflight.sources.commands import arguments_of, flags_of, process_of
from pytest_mooncake.stack.preflight.sources.documents import MOST_BYTES, read_file, settings_of, values_in
from pytest_mooncake.stack.preflight.sources.live import config_from_metrics
from pytest_mooncake.stack.preflight.sources.shell import Document, read_script
from pytest_mooncake.stack.preflight.values import json_mapping, size_bytes, version_key

METRICS = """\
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{_block_size_resolved="True",block_size="16",enable_prefix_caching="True",engine="0"} 1.0
lmcache:num_lookup_tokens_total{model_name="m"} 3.0
"""
TRANSFER = '{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both"}'


@pytest.mark.parametrize("module", [commands, documents, engines, known, live, shell, configuration, values])
def test_the_examples_in_the_docstrings_are_true(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def values_of(facts: Facts) -> dict[str, object]:
    return {key: fact.value for key, fact in facts.items()}


def engine_in(text: str) -> tuple[dict[str, object], tuple[str, ...]]:
    """Environment and words of the first part of a stack that a script starts."""
    for command in read_script(text, "run.sh").commands:
        if process := process_of(command):
            return values_of(process.env), process.words
    raise AssertionError(f"nothing is started by {text}")


@pytest.mark.parametrize(
    ("text", "env"),
    [
        ("A=1 vllm serve m", {"A": "1"}),
        ("export A=1\nB=2 exec vllm serve m", {"A": "1", "B": "2"}),
        ("A=1\nvllm serve m", {}),
        ("A=1\nexport A\nvllm serve m", {"A": "1"}),
        ("set -a; A=1; set +a\nvllm serve m", {"A": "1"}),
        ("declare -x A=1; vllm serve m", {"A": "1"}),
        ("export A=1; unset A; vllm serve m", {}),
        ("mkdir -p /tmp/x && export A=/tmp/x\nvllm serve m", {"A": "/tmp/x"}),
        ("if true; then export A=1; fi\nvllm serve m", {"A": "1"}),
        ("B=2\nexport A=${B}x${C:-3}\nvllm serve m", {"A": "2x3"}),
        ("env A=1 nohup vllm serve m > log 2>&1 &", {"A": "1"}),
        ("numactl -N 0 env A='x y' /opt/bin/vllm serve m", {"A": "x y"}),
        ("A=1 bash -lc 'export B=2; vllm serve m'", {"A": "1", "B": "2"}),
        ("export A=1\nbash <<EOF\nexport B=2\nvllm serve m\nEOF", {"A": "1", "B": "2"}),
        ("export A=1\ndocker run -e B=2 vllm/vllm-openai:v1 m", {"B": "2"}),
        ("export A=1\ndocker run --env=B=2 img sh -c 'C=3 vllm serve m'", {"B": "2", "C": "3"}),
        ("export A=1 # why\nvllm serve m", {"A": "1"}),
        ("(export A=1; vllm serve m)", {"A": "1"}),
    ],
)
def test_a_process_has_what_is_exported_before_it_and_set_in_front_of_it(text: str, env: dict[str, str]) -> None:
    found, words = engine_in(text)
    assert found == env
    assert words[0] == "m"


@pytest.mark.parametrize(
    "text",
    [
        "vllm serve m",
        "python -m vllm.entrypoints.openai.api_server m",
        "python3 -m dynamo.vllm m",
        "cd /x; time vllm serve m | tee log",
        "kubectl exec pod -- vllm serve m",
        'eval "x"; exec vllm serve \\\n  m',
    ],
)
def test_an_engines_command_is_found_behind_whatever_stands_in_front(text: str) -> None:
    assert engine_in(text)[1] == ("m",)


def test_a_word_is_no_program_only_because_it_is_called_like_one() -> None:
    script = read_script("ls vllm mooncake; pip install vllm; echo dynamo.vllm; cat vllm.service", "x")
    assert [process_of(command) for command in script.commands] == [None] * 4


def test_files_that_a_script_writes_are_read_and_named_with_their_lines() -> None:
    script = read_script('H=h\ncat > /etc/m.json <<EOF\n{"a": "$H"}\nEOF\ncat <<\'EOF\' > l.yaml\nb: $H\nEOF\n', "x")
    assert script.documents["/etc/m.json"] == Document('{"a": "h"}', "x", 3)
    assert script.documents["l.yaml"].line == 6


def test_an_open_quotation_mark_is_named_with_its_file_and_line() -> None:
    with pytest.raises(PlanError, match=r"run\.sh:2: not a command line"):
        read_script("\nvllm serve 'm", "run.sh")


@given(st.text(alphabet=st.sampled_from("ab $'\"\\\n<>&|;(){}=#-EOF`"), max_size=80))
def test_any_text_is_split_or_refused(text: str) -> None:
    try:
        script = read_script(text, "x")
    except PlanError:
        return
    for command in script.commands:
        process_of(command)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["m", "--port", "8000"], {"model": "m", "port": "8000"}),
        (["m", "--dtype=auto", "-pp", "2"], {"model": "m", "dtype": "auto", "pipeline-parallel-size": "2"}),
        (["--enable-prompt-tokens-details", "m"], {"enable-prompt-tokens-details": "true", "model": "m"}),
        (["m", "--no-enable-chunked-prefill"], {"model": "m", "enable-chunked-prefill": "false"}),
        (["m", "--kv_cache_dtype", "fp8"], {"model": "m", "kv-cache-dtype": "fp8"}),
        (
            ["--kv-transfer-config.kv_connector", "A", "--kv-transfer-config.kv_connector_extra_config.lmcache.x", "5"],
            {"kv-transfer-config": {"kv_connector": "A", "kv_connector_extra_config": {"lmcache.x": 5}}},
        ),
        (["--a.b+", "1", "--a.b+", "2"], {"a": {"b": [1, 2]}}),
        ([], {}),
    ],
)
def test_vllms_arguments_are_read_as_vllm_reads_them(words: list[str], expected: dict[str, object]) -> None:
    assert values_of(arguments_of(words)) == expected


@given(st.lists(st.text(max_size=12), max_size=10))
def test_no_arguments_at_all_make_the_reader_stumble(words: list[str]) -> None:
    assert all(isinstance(fact, Fact) for fact in arguments_of(words).values())
    assert all(isinstance(fact, Fact) for fact in flags_of(words).values())


def test_flags_of_the_master_are_read_in_all_spellings() -> None:
    words = ["mooncake_master", "--rpc_port", "50051", "-enable_ha=false", "--metrics-port=9003"]
    assert values_of(flags_of(words)) == {"rpc_port": "50051", "enable_ha": "false", "metrics_port": "9003"}


@pytest.mark.parametrize(
    ("text", "source", "message"),
    [
        ("a: [1", "lmcache.yaml", r"lmcache\.yaml:1: not YAML"),
        ("- a", "lmcache.yaml", "expected settings"),
        ("# nothing", "lmcache.yaml", "expected settings of LMCache .*found nothing"),
        ("{", "mooncake.json", r"mooncake\.json: not JSON"),
        ("[]", "mooncake.json", "expected settings"),
        ('{"a": NaN}', "mooncake.json", "NaN"),
        ("!!python/object/apply:os.system [ls]", "lmcache.yaml", "not YAML"),
        ("{{ if .Values.x }}", "lmcache.yaml", "render it"),
        ("[" * 3000, "lmcache.yaml", "deeper than any configuration"),
        ("a: &a [*a]", "lmcache.yaml", "more or deeper values"),
    ],
)
def test_files_that_hold_no_settings_are_refused_by_name(text: str, source: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        settings_of(Document(text, source), "LMCache")


def test_values_that_are_repeated_without_end_are_refused() -> None:
    bomb = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(PlanError, match="more or deeper values"):
        values_in(Document(bomb, "x"))


@given(st.text(max_size=60))
def test_any_yaml_is_read_or_refused_in_one_line(text: str) -> None:
    refused = []
    try:
        values_in(Document(text, "x.yaml"))
    except PlanError as problem:
        refused.append(str(problem))
    assert not any("\n" in line for line in refused)


WANTED = (
    "vllm-args",
    "lmcache-yaml",
    "mooncake-json",
    "master-flags",
    "lmcache-server-args",
    "model-config",
    "manifest",
)
NO_CONFIGURATION = {
    "binary": b"\x7fELF\x00\x01\xff",
    "empty": b"",
    "blank": b"\n \n",
    "too large": b"a: 1\n" * (MOST_BYTES // 5 + 1),
    "a workflow": b"name: x\non: push\njobs: {}\n",
    "prose": b"Dear all,\nplease find attached\n",
    "a list": b"[1, 2]\n",
    "JSON of something": b'{"id": 1, "name": "x"}',
    "a template": b"{{- if .Values.a }}\na: 1\n{{- end }}\n",
    "a Service": b"apiVersion: v1\nkind: Service\nmetadata: {name: x}\n",
}


@pytest.mark.parametrize("option", WANTED)
@pytest.mark.parametrize("what", NO_CONFIGURATION)
def test_what_is_no_configuration_is_one_line_with_what_and_where(what: str, option: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(NO_CONFIGURATION[what])
    error = CliRunner().invoke(app.app, ["doctor", f"--{option}", str(path)]).exception
    assert isinstance(error, MooncakeError), error
    assert error.exit_code == 4
    assert str(error).startswith(str(path))
    assert "\n" not in str(error)


STRANGE = {
    "deployment.yaml": """\
kind: Deployment
apiVersion: apps/v1
metadata: {name: a}
spec:
  replicas: x
  template:
    spec:
      containers:
      - name: 1
        image: vllm/vllm-openai
        args: [--model, m, --port, 80a, -tp, two, --kv-transfer-config, '{"kv_connector": 5, "kv_role": [1]}']
        env: [{name: LMCACHE_EXTRA_CONFIG, value: "[1]"}, {name: LMCACHE_CHUNK_SIZE, value: ""}, 5]
        resources: {limits: {memory: lots}}
""",
    "lmcache.yaml": """\
chunk_size: [1,2]
local_cpu: {a: 1}
max_local_cpu_size: .inf
remote_url: 5
pre_caching_hash_algorithm: [x]
remote_serde: {}
extra_config:
  local_hostname: [1]
  metadata_server: {a: b}
  protocol: 7
  master_server_address: [1, 2]
  global_segment_size: -5
  local_buffer_size: .nan
  transfer_timeout: .inf
  save_chunk_meta: maybe
  mooncake_master_server_addr: 5
external_lookup_client: 7
remote_storage_plugins: 5
internal_api_server_host: [1]
internal_api_server_enabled: true
min_retrieve_tokens: x
1: 2
null: 3
""",
    "master.sh": """\
mooncake_master --rpc_port=abc --metrics_port= --eviction_high_watermark_ratio=high --default_kv_lease_ttl \\
  --enable_http_metadata_server=maybe --http_metadata_server_port=99999999999999999999
""",
    "mooncake.json": """\
{"mode": 5, "metadata_server": 5, "master_server_address": ["a"], "protocol": null,
 "global_segment_size": "x", "local_buffer_size": [1]}
""",
    "server.sh": """\
lmcache server --port x --l2-adapter '{"type":"mooncake_store","protocol":5,"metadata_server":["x"]}' --l2-adapter
""",
    "config.json": """\
{"model_type": 5, "num_hidden_layers": "x", "hidden_size": -1, "num_attention_heads": 0, "head_dim": [1]}
""",
    "engine.sh": """\
MOONCAKE_CONFIG_PATH= vllm serve --tensor-parallel-size=-3 --kv-transfer-config.kv_connector MultiConnector \\
  --kv-transfer-config.kv_connector_extra_config '{"connectors":[5,{"kv_connector":"LMCacheMPConnector",
  "kv_role":"kv_both","kv_connector_extra_config":{"lmcache.mp.server_urls":[5,"tcp://a:x"],"lmcache.mp.port":"a"}}]}'
""",
}


@pytest.mark.parametrize(
    "options",
    [
        "--manifest deployment.yaml",
        "--vllm-args engine.sh --lmcache-server-args server.sh --model-config config.json --workload long-document",
        "--lmcache-yaml lmcache.yaml --master-flags master.sh --version lmcache=0.5.6 --version mooncake=0.3.13",
        "--mooncake-json mooncake.json --planned clear --planned reset-external",
        "--vllm-args engine.sh --lmcache-yaml lmcache.yaml --mooncake-json mooncake.json --here",
    ],
)
def test_values_of_every_wrong_kind_are_findings_and_never_a_traceback(
    options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in STRANGE.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app.app, ["doctor", *options.split()])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "could not be applied" in result.output.splitlines()[-1]


def test_a_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(PlanError, match=r"absent\.sh: cannot be read \(No such file"):
        read_file(Path("absent.sh"))


def test_a_pipe_that_nobody_writes_to_is_an_empty_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.sh")
    with pytest.raises(PlanError, match=r"pipe\.sh: is empty"):
        read_file(tmp_path / "pipe.sh")


@pytest.mark.parametrize(
    ("value", "size"),
    [("4GB", 2**32), ("64mb", 2**26), ("1.5 GiB", 3 * 2**29), (7, 7), ("9", 9), ("", None), (None, None), (True, None)],
)
def test_sizes_are_read_as_mooncake_reads_them(value: object, size: int | None) -> None:
    assert size_bytes(value) == size


def test_versions_are_ordered_by_their_numbers_and_builds_of_branches_have_none() -> None:
    order = ["0.3.9", "0.3.10.post2", "0.3.12", "0.3.12.post1", "0.32.0+cpu"]
    assert sorted(reversed(order), key=lambda text: version_key(text) or ()) == order
    assert [version_key(text) for text in ("unknown", "nightly", "0.1.dev1+gabc", "0.33.0.dev20", "")] == [None] * 5


def test_json_that_is_no_object_is_no_mapping() -> None:
    assert json_mapping("[1]") is None
    assert json_mapping(None) is None
    assert json_mapping("{") is None


def test_an_engine_of_which_little_is_known_is_not_condemned_for_what_was_not_told() -> None:
    attached = config_from_metrics("engine 0", METRICS)
    assert attached.arg("enable-prefix-caching") == "true"
    assert attached.arg("block-size") == "16"
    assert attached.uses_lmcache
    found = {finding.id for finding in lint(Subject(engines=(attached,), versions={"vllm": "0.32.0"}))}
    assert found == {"W03", "W35"}, "what is known is judged: the version pair, and prefix caching"


def test_an_engine_that_shows_nothing_has_no_findings() -> None:
    silent = config_from_metrics("engine 0", "")
    assert lint(Subject(engines=(silent, EngineConfig(name="engine 1", unknown=silent.unknown)))) == ()


def test_settings_told_by_lmcache_itself_are_judged() -> None:
    conf = {"local_cpu": Fact(True, "/conf"), "remote_url": Fact("mooncakestore://m/", "/conf")}
    told = config_from_metrics("engine 0", METRICS, lmcache=conf)
    assert "E12" in {finding.id for finding in lint(Subject(engines=(told,)))}
