"""The tiny model: how many heads, how many bytes, where it lies, and that its files follow from its geometry alone."""

from __future__ import annotations

import json
import os
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mooncake.plan.models import LocalModel
from pytest_mooncake.stack.local import model
from pytest_mooncake.stack.local.host.paths import cache_dir
from pytest_mooncake.stack.local.inside import build_model
from pytest_mooncake.stack.local.model import (
    ATTENTION_BUDGET_S,
    PROBE_S_TO_ROUND_S,
    choose_heads,
    geometry,
    kv_bytes_per_token,
    model_dir,
    publish,
)

PINNED_WORDS = ["nofondagus", "pedet", "kartet"]
SMALL: dict[str, Any] = LocalModel(vocab=400, hidden=16, head_dim=8, layers=1, heads=2).model_dump()


def test_heads_follow_the_speed_of_attention_as_measured_on_two_cpus() -> None:
    assert choose_heads(0.016, 1) == 2  # AVX-512 bf16: 11 s of attention a head in a cold round
    assert choose_heads(0.016 * 2.3 / 11, 1) == 8  # AMX: 2.3 s a head


@given(st.floats(1e-6, 10), st.sampled_from([1, 2, 4]))
def test_heads_are_the_most_that_fit_the_budget_and_share_their_kv_heads_evenly(probe_s: float, kv_heads: int) -> None:
    heads = choose_heads(probe_s, kv_heads)
    assert heads % kv_heads == 0
    assert heads <= max(model.HEAD_CHOICES)
    cost_s = heads * probe_s * PROBE_S_TO_ROUND_S
    assert cost_s <= ATTENTION_BUDGET_S or heads == kv_heads
    if heads < max(model.HEAD_CHOICES):
        assert 2 * cost_s > ATTENTION_BUDGET_S


def test_an_odd_number_of_kv_heads_gets_one_query_head_each() -> None:
    assert choose_heads(0.001, 7) == 7


def test_kv_bytes_are_two_tensors_of_two_bytes_per_layer_and_head() -> None:
    assert kv_bytes_per_token(LocalModel(layers=2, kv_heads=1, head_dim=64)) == 512
    assert kv_bytes_per_token(LocalModel(layers=80, kv_heads=8, head_dim=128)) == 327_680  # Qwen2.5-72B's geometry


def test_a_model_lies_where_its_geometry_and_builders_say(tmp_path: Path) -> None:
    versions = {"numpy": "2"}
    here = model_dir(tmp_path, SMALL, versions)
    assert here == model_dir(tmp_path, dict(reversed(SMALL.items())), versions)
    assert here != model_dir(tmp_path, SMALL | {"seed": 1}, versions)
    assert here != model_dir(tmp_path, SMALL, {"numpy": "3"})
    assert geometry(LocalModel(), 8)["heads"] == 8


def test_a_model_is_built_once_and_appears_whole(tmp_path: Path) -> None:
    target, builds = tmp_path / "models" / "abc", []

    def build(out: Path) -> None:
        assert not target.exists()
        (out / "weights").write_text("w")
        builds.append(out)

    for _ in range(2):
        assert publish(target, build) == target
        assert (target / "weights").read_text() == "w"
    assert len(builds) == 1
    assert [entry.name for entry in target.parent.iterdir()] == ["abc"]


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def build(out: Path) -> None:
        (out / "half").touch()
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        publish(tmp_path / "models" / "abc", build)
    assert list((tmp_path / "models").iterdir()) == []


def test_whoever_builds_the_same_model_meanwhile_wins_without_harm(tmp_path: Path) -> None:
    target = tmp_path / "models" / "abc"

    def build(out: Path) -> None:
        (out / "mine").touch()
        target.mkdir()
        (target / "theirs").touch()

    publish(target, build)
    assert [entry.name for entry in target.iterdir()] == ["theirs"]


def test_a_directory_that_cannot_be_renamed_is_an_error(tmp_path: Path) -> None:
    target = tmp_path / "models" / "abc"

    def build(out: Path) -> None:
        target.write_text("a file is in the way")

    with pytest.raises(OSError, match="abc"):
        publish(target, build)


def test_what_a_killed_build_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    old, recent = tmp_path / "models" / ".building-old", tmp_path / "models" / ".building-recent"
    for directory in (old, recent):
        directory.mkdir(parents=True)
    os.utime(old, (0, time.time() - model.ABANDONED_S - 1))
    publish(tmp_path / "models" / "abc", lambda out: None)
    assert not old.exists()
    assert recent.exists()


def test_the_cpu_has_one_fingerprint_per_torch() -> None:
    assert model.cpu_fingerprint("2.13") == model.cpu_fingerprint("2.13")
    assert model.cpu_fingerprint("2.13") != model.cpu_fingerprint("2.14")


def test_the_cache_is_where_the_user_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "pytest-mooncake"
    assert cache_dir().stat().st_mode & 0o077 == 0
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "pytest-mooncake"


def test_the_same_seed_invents_the_same_words_anywhere() -> None:
    # pinned: a Python whose random() differed would give another tokenizer under the same cache key
    assert list(islice(build_model.words(0), 3)) == PINNED_WORDS
    assert list(islice(build_model.words(1), 3)) != PINNED_WORDS


def test_checkpoints_hold_every_tensor_once_back_to_back(tmp_path: Path) -> None:
    build_model.write_weights(tmp_path, SMALL)
    raw = (tmp_path / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__")
    assert set(header) == {name for name, _ in build_model.shapes(SMALL)}
    at = 0
    for name, shape in build_model.shapes(SMALL):
        start, end = header[name]["data_offsets"]
        elements = shape[0] * (shape[1] if len(shape) > 1 else 1)
        assert (start, end) == (at, at + 2 * elements)
        at = end
    assert len(raw) == 8 + length + at
    assert length % 8 == 0


def test_norms_are_one_and_weights_spread_as_wanted(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    build_model.write_weights(tmp_path, SMALL)
    raw = (tmp_path / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])

    def read(name: str) -> Any:
        start, end = header[name]["data_offsets"]
        half = np.frombuffer(raw[8 + length + start : 8 + length + end], "<u2")
        return (half.astype("<u4") << 16).view("<f4")

    assert set(read("model.norm.weight").tolist()) == {1.0}
    weights = read("model.embed_tokens.weight")
    assert abs(float(weights.std()) - build_model.WEIGHT_STD) < 0.005
    assert abs(float(weights.mean())) < 0.005


def test_the_same_geometry_gives_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    built = {}
    for name, shape in {"a": SMALL, "b": SMALL, "c": SMALL | {"seed": 1}}.items():
        out = tmp_path / name
        out.mkdir()
        build_model.main([json.dumps(shape), str(out)])
        built[name] = {path.name: path.read_bytes() for path in out.iterdir()}
    assert built["a"] == built["b"]
    assert built["a"]["model.safetensors"] != built["c"]["model.safetensors"]
    assert built["a"]["tokenizer.json"] != built["c"]["tokenizer.json"]
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= set(built["a"])


def test_every_id_is_a_token_and_any_text_survives(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    build_model.write_tokenizer(tmp_path, vocab=400, seed=0, max_position=1024)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 400
    assert all(tokenizer.id_to_token(number) for number in range(400))
    text = "The cache is warm — 缓存是热的. 🙂\n"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert tokenizer.token_to_id("<|im_end|>") == build_model.SPECIAL.index("<|im_end|>")


def test_a_vocabulary_that_the_corpus_cannot_fill_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tokenizers")
    monkeypatch.setattr(build_model, "lines", lambda seed, count: iter(["ab"]))
    with pytest.raises(SystemExit, match="entries instead of 400"):
        build_model.write_tokenizer(tmp_path, vocab=400, seed=0, max_position=1024)
