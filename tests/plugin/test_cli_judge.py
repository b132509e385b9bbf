"""`pytest-mooncake judge`: the acceptance report's own table, and files that cannot be judged."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from pytest_mooncake.cli import app
from pytest_mooncake.errors import PlanError, UsageError

SPEC = Path(__file__).parents[1] / "data" / "spec_figures.yaml"
HARMLESS = """\
requests: 30
cold: {ttft_ms: {mean: 1200}, tpot_ms: {mean: 15}, request_throughput: 2.5}
warm: {ttft_ms: {mean: 400}, tpot_ms: {mean: 14.5}, request_throughput: 7.4}
"""
QWEN_72B = {
    "num_hidden_layers": 80, "hidden_size": 8192, "intermediate_size": 29568, "num_attention_heads": 64,
    "num_key_value_heads": 8, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judge(*arguments: object) -> Result:
    return CliRunner().invoke(app.app, ["judge", *map(str, arguments)])


def figures(here: Path, text: str, name: str = "figures.yaml") -> Path:
    path = here / name
    path.write_text(text, encoding="utf-8")
    return path


def report(directory: Path) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((directory / "report.json").read_text(encoding="utf-8"))
    return held


def refused(here: Path, text: str, name: str = "figures.yaml") -> str:
    result = judge(figures(here, text, name))
    assert isinstance(result.exception, PlanError)
    assert not (here / "mooncake-report").exists()
    return str(result.exception).removeprefix(f"{here}/{name}:")


def test_the_acceptance_reports_own_table_is_invalid_with_its_broken_laws_by_name_and_size(here: Path) -> None:
    result = judge(SPEC, "--economics", "default", "--report", "out")
    told = " ".join(result.output.split())

    assert result.exit_code == 11
    assert "Verdict: INVALID" in told
    assert "little.warm: 7.40 req/s × 2.24 s = 16.6 requests in flight, concurrency 8: 107 % too much" in told
    assert "compute: 2.5 req/s × 2.29 PFLOP = 5.7 PFLOP/s, peak 4.99 PFLOP/s (115 %): 15 % too much" in told
    assert "bytes: 7.4 req/s × 5.37 GB = 318 Gb/s of 400 Gb/s (79 %): close to the bound" in told
    assert "closed_loop: throughput ×2.96, at equal concurrency latency allows ×1.39" in told


def test_its_report_holds_the_point_estimates_the_audit_and_the_business_case(here: Path) -> None:
    judge(SPEC, "--economics", "default", "--report", "out")
    held = report(here / "out")
    changes = {c["id"]: c["change_percent"] for c in held["claims"]}
    audit = {f["law"]: f["status"] for f in held["audit"]}

    assert held["verdict"] == "INVALID"
    assert round(changes["ttft_mean"], 1) == -66.7
    assert round(changes["request_throughput"], 1) == 196.0
    broken = [law for law, status in audit.items() if status == "broken"]
    warned = [law for law, status in audit.items() if status == "warning"]
    assert (broken, warned) == (["little.warm", "compute"], ["closed_loop", "bytes"])
    money = held["economics"]
    assert (money["servers_after"], money["payback_days"]) == (3.4, 18)
    assert {path.name for path in (here / "out").iterdir()} >= {"report.json", "report.md", "report.html"}


def test_without_a_directory_the_reports_get_one_of_their_own(here: Path) -> None:
    assert judge(SPEC).exit_code == 11
    assert report(here / "mooncake-report" / "judged-spec_figures")["run"] == "spec_figures"


def test_the_chinese_summary_says_the_verdict_in_chinese(here: Path) -> None:
    result = judge(SPEC, "--lang", "zh")
    assert "无效" in result.output
    assert "无效" in (here / "mooncake-report" / "judged-spec_figures" / "report.md").read_text(encoding="utf-8")


def test_figures_that_agree_are_at_best_inconclusive(here: Path) -> None:
    result = judge(figures(here, HARMLESS))
    assert result.exit_code == 10
    assert "one pair of rounds carries no spread" in " ".join(result.output.split())


def test_failed_requests_are_a_fail(here: Path) -> None:
    failing = yaml.safe_load(HARMLESS)
    failing["warm"]["failed"] = 2
    result = judge(figures(here, yaml.safe_dump(failing)))
    assert result.exit_code == 1
    assert "2 of 60 requests failed" in result.output


def test_other_targets_are_judged_by(here: Path) -> None:
    own = figures(here, "claims:\n  - {metric: ttft_mean, target: '<= 300 ms'}\n", "mine.yaml")
    result = judge(figures(here, HARMLESS), "--targets", own)
    assert result.exit_code == 10
    assert "misses at most 300" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HARMLESS}concurency: 8\n", "4: unknown key 'concurency'; did you mean 'concurrency'?"),
        ("cold: {ttft_ms: {avg: 3}}\nwarm: {}\n", "1: unknown key 'cold.ttft_ms.avg'; known keys: max, mean, min"),
        ("cold: {}\nwarm: {ttfts_ms: {}}\n", "2: unknown key 'warm.ttfts_ms'; did you mean 'ttft_ms'?"),
        ("cold: {}\n", "1: key 'warm' is missing"),
        ("cold: {request_throughput: -1}\nwarm: {}\n", "1: value -1 of 'cold.request_throughput' does not fit"),
        ("cold: {ttft_ms: {mean: .nan}}\nwarm: {}\n", "1: '.nan' is no finite number"),
        ("cold: {ttft_ms: {mean: .inf}}\nwarm: {}\n", "1: '.inf' is no finite number"),
        ("cold: {requests: 2.5}\nwarm: {}\n", "1: value 2.5 of 'cold.requests' does not fit"),
        ("cold: {requests: true}\nwarm: {}\n", "1: cold.requests: a number is needed, not true or false"),
        ("cold: {ttft_ms: 5}\nwarm: {}\n", "1: value 5 of 'cold.ttft_ms' does not fit"),
    ],
)
def test_what_does_not_belong_is_named_with_its_line(here: Path, text: str, message: str) -> None:
    assert refused(here, text).startswith(message)


def test_a_file_that_is_not_there_is_said(here: Path) -> None:
    result = judge("nowhere.yaml")
    assert isinstance(result.exception, PlanError)
    assert "nowhere.yaml: cannot be read (No such file or directory)" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lang", "fr"), "--lang fr: expected one of en, zh"),
        (("--targets", "defualt"), "--targets defualt: no such name; did you mean 'default'?"),
        (("--economics", "nowhere.yaml"), "--economics nowhere.yaml: no such file"),
        (("--report", "held"), "already holds a run; name another one"),
        (("--report", "a-file"), "a-file: reports cannot be written to it (File exists)"),
        (("--report", "."), "report.md is there already and no report of pytest-mooncake"),
    ],
)
def test_an_option_that_cannot_be_meant_is_a_usage_error(here: Path, arguments: tuple[str, str], message: str) -> None:
    (here / "held").mkdir()
    (here / "held" / "plan.json").write_text("{}", encoding="utf-8")
    (here / "a-file").write_text("", encoding="utf-8")
    (here / "report.md").write_text("of somebody else\n", encoding="utf-8")
    result = judge(figures(here, HARMLESS), *arguments)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_a_users_mistake_ends_with_exit_code_4(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["pytest-mooncake", "judge", "nowhere.yaml"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 4
    assert capsys.readouterr().err.startswith("ERROR: nowhere.yaml: cannot be read")


def test_a_models_config_json_is_read_beside_the_figures(here: Path) -> None:
    (here / "config.json").write_text(json.dumps(QWEN_72B), encoding="utf-8")
    text = f"{HARMLESS}prompt_tokens: 16384\nmodel: {{config: config.json}}\nnetwork_gbps: 200\n"
    result = judge(figures(here, text))
    limits = report(here / "mooncake-report" / "judged-figures")["limits"]
    assert limits["kv_bytes_per_token"] == 327_680
    assert round(limits["load_floor_s"], 2) == 0.21
    assert result.exit_code == 11, "7.4 prompts a second do not pass through 200 Gb/s"
    assert "318 Gb/s of 200 Gb/s (159 %)" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), ("{", "not JSON"), ('{"hidden_size": 5}', "num_hidden")],
)
def test_a_config_json_that_cannot_be_used_is_said(here: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (here / "config.json").write_text(content, encoding="utf-8")
    assert reason in refused(here, f"{HARMLESS}model: {{config: config.json}}\n")


def test_a_hardware_sheet_is_looked_up_by_name_and_outranked_by_what_is_given(here: Path) -> None:
    text = (
        f"{HARMLESS}prompt_tokens: 16384\nmodel: {{parameters: 7.0e10}}\nhardware: {{sheet: a100-80g-sxm, gpus: 16}}\n"
    )
    assert judge(figures(here, text)).exit_code == 11
    more = text.replace("gpus: 16", "gpus: 16, peak_tflops_per_gpu: 989")
    assert judge(figures(here, more)).exit_code == 10


def test_an_unknown_hardware_sheet_is_answered_with_the_nearest_name(here: Path) -> None:
    result = judge(figures(here, f"{HARMLESS}hardware: {{sheet: h100-smx}}\n"))
    assert isinstance(result.exception, UsageError)
    assert "hardware.sheet h100-smx: no such name; did you mean 'h100-sxm'?" in str(result.exception)


ROWS = "key,value\nrequests,30\ncold.ttft_ms.mean,1200\nwarm.ttft_ms.mean,400\ncold.request_throughput,2.5\n"
SIDES = "metric,cold,warm\nttft_ms.mean,1200,400\ntpot_ms.mean,15,14.5\nrequest_throughput,2.5,7.4\nconcurrency,8,\n"


def test_a_table_of_dotted_keys_is_judged_like_the_yaml(here: Path) -> None:
    table = f"{ROWS}warm.request_throughput,7.4\ncold.tpot_ms.mean,15\nwarm.tpot_ms.mean, 14.5\n# a remark\n"
    assert judge(figures(here, table, "figures.csv")).exit_code == 10
    held = report(here / "mooncake-report" / "judged-figures")
    judge(figures(here, HARMLESS), "--report", "yaml")
    assert held["summary"] == report(here / "yaml")["summary"]


def test_a_table_with_a_column_for_each_side_is_read_too(here: Path) -> None:
    result = judge(figures(here, SIDES, "figures.csv"))
    assert result.exit_code == 10
    held = report(here / "mooncake-report" / "judged-figures")
    assert held["summary"]["warm"]["request_throughput"] == 7.4


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (f"{ROWS}cold.ttft_ms.avg,3\n", "6: unknown key 'cold.ttft_ms.avg'"),
        (f"{ROWS}requests,31\n", "6: 'requests' was already given on line 2"),
        (f"{ROWS}requests.x,31\n", "6: 'requests.x': 'requests' was already given a value of its own"),
        (f"{ROWS}warm.failed,1,2\n", "6: 2 values after 'warm.failed'; write key,value"),
        (f"{ROWS}warm.failed,\n", "6: 0 values after 'warm.failed'"),
        (f"{SIDES}ttft_ms.p90,nan,1\n", "6: value 'nan' of 'cold.ttft_ms.p90' does not fit"),
        ("requests,30\n", "1: key 'cold' is missing"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_read_names_its_line(here: Path, table: str, message: str) -> None:
    assert refused(here, table, "figures.csv").startswith(message)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("date: 2024-02-30\n", 1),
        ("requests: 30\na: &a [*a]\n", 2),
        (f"{HARMLESS}description: {'[' * 3000}\n", 4),
        (f"requests: {'7' * 6000}\n", 1),
        ("a: &a [1]\n" + "".join(f"{new}: &{new} [{f'*{old},' * 9}]\n" for old, new in pairwise("abcdefgh")), 6),
    ],
    ids=["date", "anchor", "brackets", "digits", "bomb"],
)  # fmt: skip
def test_what_yaml_could_choke_on_is_one_line_and_exit_code_4(
    here: Path, text: str, line: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["pytest-mooncake", "judge", str(figures(here, text))])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 4
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"ERROR: {here}/figures.yaml:{line}: ")


@pytest.mark.parametrize("figure", ["0", "1.0e-12", "1.0e+18", "1"])
def test_figures_of_any_size_are_judged(here: Path, figure: str) -> None:
    side = f"{{ttft_ms: {{mean: {figure}}}, tpot_ms: {{mean: 3}}, request_throughput: %s, output_tokens: {10**18}}}"
    sides = f"cold: {side % 1.0e-6}\nwarm: {side % figure}\n"
    text = f"prompt_tokens: {10**18}\n{sides}model: {{kv_bytes_per_token: {10**18}}}\n"
    assert judge(figures(here, text), "--economics", "default").exit_code in {1, 10, 11}


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_hidden_layers": 0}, {"num_hidden_layers": True}, {"hidden_size": "8192"}, {"head_dim": 1.5},
        {"num_key_value_heads": [8]}, {"intermediate_size": -1}, {"layer_types": 5}, {"layer_types": [[]]},
        {"num_attention_heads": 10**30},
    ],
    ids=str,
)  # fmt: skip
def test_a_config_json_with_a_size_that_is_none_is_said(here: Path, wrong: dict[str, Any]) -> None:
    (here / "config.json").write_text(json.dumps({**QWEN_72B, **wrong}), encoding="utf-8")
    assert next(iter(wrong)) in refused(here, f"{HARMLESS}model: {{config: config.json}}\n")


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a": ' + "1" * 6000 + "}", "\ud800"], ids=["deep", "long", "half"]
)
def test_a_config_json_that_nobody_can_mean_is_said(here: Path, content: str) -> None:
    (here / "config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    assert "model.config" in refused(here, f"{HARMLESS}model: {{config: config.json}}\n")


def test_a_table_that_is_no_text_is_refused(here: Path) -> None:
    (here / "figures.csv").write_bytes(b"\xff\xfe\x00")
    result = judge(here / "figures.csv")
    assert isinstance(result.exception, PlanError)
    assert "not UTF-8 text" in str(result.exception)
