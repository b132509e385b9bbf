"""Configurations from public reports get the answer that stands beside them, through the command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pytest_mooncake.cli import app

CASES = Path(__file__).parents[3] / "data" / "configs"
BASE = "--vllm-args 00-base-lmcache.sh"
OWN = "08-own-metadata-server.yaml"
SEEDS = "--vllm-args 37-sha256-no-seed-0.sh --vllm-args 37-sha256-no-seed-1.sh --lmcache-yaml 37-sha256-no-seed.yaml"


@dataclass(frozen=True)
class Case:
    """A command, the findings that it has to have, all of them, and words that have to be said."""

    options: str
    found: str = ""
    says: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        inputs = [word for word in self.options.split() if word[0].isdigit() and word not in BASE]
        versions = [word for word in self.options.split() if "=" in word]
        return " ".join([inputs[0] if inputs else "00", *versions])


FOUND = [
    Case(BASE),
    Case(
        "--vllm-args 01-remote-url-wins.sh --version lmcache=0.3.6 --version mooncake=0.3.6",
        "W09 W27 W43",
        ("host and port of remote_url replace master_server_address", "etcd:// is lost", "LMCACHE_REMOTE_URL"),
    ),
    Case("--vllm-args 01-remote-url-wins.sh --version lmcache=0.5.6", "E05- W27 W43"),
    Case(
        f"{BASE} --lmcache-yaml 03-lookup-no-remote.yaml",
        "E05- E10 W44",
        ("LMCache 0.5.6 does not know local_device (nearest: local_disk), pipelined_backend", "enable_mooncake"),
    ),
    Case(
        "--vllm-args 04-k8s-shared-hostname.sh --lmcache-yaml 04-k8s-shared-hostname.yaml "
        "--version vllm=0.12.0 --version lmcache=0.3.12",
        "W19 W27 W35 W42",
        ("a Kubernetes Service's name", "transfer_timeout is 1 s, for a whole batch"),
    ),
    Case(
        "--vllm-args 05-v0-connector-env.sh --mooncake-json 05-v0-connector-env.json",
        "E01 E12 E15 E17 W27 W35",
        ("gone since 0.10", "remote_serde is cachegen (LMCACHE_REMOTE_SERDE in 05-v0-connector-env.sh:1)"),
    ),
    Case(
        "--vllm-args 06-healthy-rdma.sh --lmcache-yaml 06-healthy-rdma.yaml --mooncake-json 06-healthy-rdma.json "
        "--master-flags 06-healthy-rdma.master.sh --version vllm=0.25.1 --version lmcache=0.5.6 "
        "--version mooncake=0.3.13.post1"
    ),
    Case(f"{BASE} --lmcache-yaml {OWN} --master-flags 08-own-metadata-server.master.sh", "E24-", ("was not seen",)),
    Case(
        f"{BASE} --lmcache-yaml 09-metadata-port-differs.yaml --master-flags 09-metadata-port-differs.master.sh",
        "E24",
        ("the master serves metadata on port 8090: clients ask 8080",),
    ),
    Case(
        "--vllm-args 10-mp-mode.sh --lmcache-server-args 10-mp-mode.server.sh --version vllm=0.27.1 "
        "--version lmcache=0.5.6 --version mooncake=0.3.13.post1",
        "E07 E53",
        ("master_server_address, mooncake_rdma_devices", "asks port 6555, the MP server listens on 5555"),
    ),
    Case("--vllm-args 10-mp-mode.sh", "", ("E07", "give --lmcache-server-args FILE")),
    Case(
        "--vllm-args 11-mp-hybrid.sh --version vllm=0.24.0 --version lmcache=0.5.1",
        "W27 W32 W35 W37",
        ("hybrid model",),
    ),
    Case(
        "--mooncake-json 13-store-wrong-json.json",
        "E49 E51 W44",
        (
            "standalone-store needs global_segment_size 0",
            "local_buffer_size must be > 0",
            "master_server_address is missing",
            "case-sensitive",
            "mooncake_rdma_devices (nearest: device_name)",
        ),
    ),
    Case(
        "--mooncake-json 06-healthy-rdma.json --version lmcache=0.5.6 --version mooncake=0.3.13.post1",
    ),
    Case("--vllm-args 14-store-no-config-path.sh", "E50", ("MOONCAKE_CONFIG_PATH is not set",)),
    Case("--vllm-args 15-multi-connector.sh --lmcache-yaml 15-multi-connector.yaml", "E10 E12 E17 W27"),
    Case("--vllm-args 17-offloading-flag.sh", "E01- W35", ("depends on vLLM's version",)),
    Case("--vllm-args 17-offloading-flag.sh --version vllm=0.32.0", "W27 W32 W35"),
    Case("--vllm-args 18-dotted-args.sh", "W27"),
    Case("--vllm-args 19-dynamo.sh", "W27"),
    Case("--vllm-args 21-consumer-only.sh", "W47", ("no engine of the pool may store",)),
    Case(f"--vllm-args 22-config-path-hides-extra.sh --lmcache-yaml {OWN}", "E08"),
    Case(f"{BASE} --lmcache-yaml 23-configmap.yaml"),
    Case(f"{BASE} --lmcache-yaml 25-not-a-number.yaml", "E45", ("max_local_cpu_size is '20GB'", "'30s'")),
    Case(f"{BASE} --lmcache-yaml 26-zero-segments.yaml", "W42 W43", ("nobody gives memory", "nobody else can reach")),
    Case(f"{BASE} --lmcache-yaml 28-doc-example-new-versions.yaml", "E05-", ("depends on the versions",)),
    Case(
        f"{BASE} --lmcache-yaml 28-doc-example-new-versions.yaml --version lmcache=0.4.5 --version mooncake=0.3.9",
        "E05",
    ),
    Case(
        f"{BASE} --lmcache-yaml 28-doc-example-new-versions.yaml --version lmcache=0.4.4 --version mooncake=0.3.9",
    ),
    Case("--vllm-args 29-ascend.sh", "W46", ("unknown to this tool",)),
    Case(f"{BASE} --lmcache-yaml 30-blending.yaml", "E10 E12 W48", ("use_layerwise with mooncakestore",)),
    Case("--master-flags 32-master-flags.sh", "W55", ("the master listens on 50052, not on the clients' 50051",)),
    Case(f"{BASE} --lmcache-yaml 33-sha256-cbor-on-new.yaml --version vllm=0.25.1 --version lmcache=0.5.6"),
    Case(
        f"{BASE} --lmcache-yaml 34-save-chunk-meta-a.yaml --lmcache-yaml 34-save-chunk-meta-b.yaml "
        "--mooncake-json 34-save-chunk-meta.json",
        "E18",
    ),
    Case(f"{BASE} --lmcache-yaml 36-master-on-50052.yaml --master-flags 36-master-on-50052.master.sh"),
    Case(f"{SEEDS} --version vllm=0.25.1", "E15", ("NONE_HASH", "whatever pre_caching_hash_algorithm is")),
    Case(f"{SEEDS} --version vllm=0.29.0", "W03"),
    Case(SEEDS, "E15-", ("depends on vLLM's version",)),
    Case(f"{SEEDS} --version vllm=0.1.dev1+g3f2a", "E15-"),
    Case(
        "--vllm-args 38-pd-prefill.sh --vllm-args 38-pd-decode.sh",
        "W47",
        ("served from outside in cold rounds too", "take cold and warm evidence from the prefill engine (engine 0)"),
    ),
]
HEALTHY = ("00", "06", "08", "18", "19", "21", "23", "28", "29", "33", "36", "38")
_FINDING = re.compile(r"^([EW]\d\d) (error|warning|note): ", re.MULTILINE)
_LAST = re.compile(
    r"(\d+) errors, (\d+) warnings, (\d+) notes; of (\d+) rules (\d+) applied, (\d+) not applicable, "
    r"(\d+) could not be applied\n$"
)


def run(options: str) -> tuple[str, int]:
    result = CliRunner().invoke(app.app, ["doctor", *options.split()])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.output, result.exit_code


@pytest.fixture(autouse=True)
def _beside_the_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES)


@pytest.mark.parametrize("case", FOUND, ids=[case.name for case in FOUND])
def test_a_reported_configuration_gets_its_answer(case: Case) -> None:
    output, code = run(case.options)
    found = {rule + ("-" if kind == "note" else "") for rule, kind in _FINDING.findall(output)}
    assert found == set(case.found.split()), output
    assert all(words in output for words in case.says), output
    assert code == any(kind == "error" for _, kind in _FINDING.findall(output))


@pytest.mark.parametrize("case", FOUND, ids=[case.name for case in FOUND])
def test_the_last_line_counts_every_finding_and_every_rule(case: Case) -> None:
    output, _ = run(case.options)
    last = _LAST.search(output)
    assert last is not None, output
    kinds = [kind for _, kind in _FINDING.findall(output)]
    assert [int(n) for n in last.groups()[:3]] == [kinds.count(kind) for kind in ("error", "warning", "note")]
    rules, *endings = (int(n) for n in last.groups()[3:])
    assert rules == sum(endings)


@pytest.mark.parametrize(
    "case",
    [c for c in FOUND if c.name.startswith(HEALTHY) and "E05" not in c.found.split()],
    ids=lambda case: case.name,
)
def test_a_healthy_configuration_has_no_error_and_at_most_one_warning(case: Case) -> None:
    output, code = run(case.options)
    kinds = [kind for _, kind in _FINDING.findall(output)]
    assert code == 0
    assert kinds.count("error") == 0
    assert kinds.count("warning") <= 1, output


def test_every_file_of_the_cases_is_read_by_a_test() -> None:
    named = {word for case in FOUND for word in case.options.split()}
    inputs = {path.name for path in CASES.iterdir() if not path.name.endswith((".txt", ".prom"))}
    assert inputs - named == set()
