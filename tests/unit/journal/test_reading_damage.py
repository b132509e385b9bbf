"""A record that is not as it was written never passes, blames nobody, and never crashes its reader."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from pytest_mooncake.errors import JournalError, MooncakeError
from pytest_mooncake.journal import EVENTS_FILE, PLAN_FILE, REQUESTS_FILE, append_event, read
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.records import Verdict
from pytest_mooncake.run.runner import reported
from tests.support.made_records import as_first_version, passing, passing_plan

FILES = (PLAN_FILE, EVENTS_FILE, REQUESTS_FILE)
MUTATIONS = 1000


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return contents(passing(tmp_path_factory.mktemp("pristine") / "run"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same run again, under another id."""
    place = tmp_path_factory.mktemp("other")
    return contents(
        passing(place / "run", passing_plan(place).model_copy(update={"run_id": "20260101-000000-another"}))
    )


def contents(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in FILES}


def written(directory: Path, files: dict[str, bytes]) -> Path:
    directory.mkdir(exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


def judged(directory: Path) -> Verdict | None:
    """The verdict of a record; `None` where it is refused."""
    refused: list[MooncakeError] = []
    with contextlib.suppress(MooncakeError), kept_in(refused):
        return reported(read(directory))[0].verdict
    assert in_one_line(refused[0])
    return None


@contextlib.contextmanager
def kept_in(refused: list[MooncakeError]) -> Iterator[None]:
    try:
        yield
    except MooncakeError as error:
        refused.append(error)
        raise


def in_one_line(error: MooncakeError) -> bool:
    return error.exit_code == 4 and len(str(error).splitlines()) == 1 and len(str(error)) < 1000


def cut_bytes(content: bytes, chance: random.Random) -> bytes:
    """A part is lost, from a byte to a stretch of the file."""
    start = chance.randrange(len(content))
    return content[:start] + content[start + chance.choice((1, 2, 40, 700, 10_000)) :]


def cut_end(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def cut_lines_at_the_end(content: bytes, chance: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join(lines[: chance.randrange(len(lines))])


def flip(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def overwrite(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content))
    return content[:at] + chance.randbytes(chance.choice((1, 8, 512))) + content[at + 1 :]


def drop(content: bytes, chance: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    start = chance.randrange(len(lines))
    return b"".join(lines[:start] + lines[start + chance.choice((1, 1, 2, 8)) :])


def duplicate(content: bytes, chance: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    return b"".join(lines)


def swap(content: bytes, chance: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    first, second = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return b"".join(lines)


DAMAGES = (cut_bytes, cut_end, cut_lines_at_the_end, flip, flip, overwrite, drop, duplicate, swap)


def test_the_record_passes_as_it_was_written(tmp_path: Path, pristine: dict[str, bytes]) -> None:
    directory = written(tmp_path / "run", pristine)
    assert read(directory).damage == ()
    assert judged(directory) is Verdict.PASS


@pytest.mark.parametrize("part", range(4))
def test_a_thousand_damaged_records_never_pass_never_blame_the_product_and_never_crash(
    tmp_path: Path, pristine: dict[str, bytes], part: int
) -> None:
    chance, directory, outcomes = random.Random(part), tmp_path / "run", set()
    for _ in range(MUTATIONS // 4):
        name, damage = chance.choice(FILES), chance.choice(DAMAGES)
        state = chance.getstate()
        damaged = damage(pristine[name], chance)
        if damaged == pristine[name]:
            continue
        outcome = judged(written(directory, {**pristine, name: damaged}))
        outcomes.add(outcome)
        assert outcome not in {Verdict.PASS, Verdict.FAIL}, (name, damage.__name__, state)
    assert Verdict.INVALID in outcomes


@pytest.mark.parametrize("name", FILES)
def test_every_single_bit_counts(tmp_path: Path, pristine: dict[str, bytes], name: str) -> None:
    chance, directory = random.Random(name), tmp_path / "run"
    content = pristine[name]
    for at in (*range(len(content) - 24, len(content)), *chance.sample(range(len(content)), 40)):
        damaged = content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
        with contextlib.suppress(JournalError):
            recorded = read(written(directory, {**pristine, name: damaged}))
            assert recorded.damage or recorded.unfinished, at


def loosened(plan: bytes) -> bytes:
    values = orjson.loads(plan)
    for claim in values["plan"]["targets"]["claims"]:
        claim["gating"] = False
    return orjson.dumps(values, option=orjson.OPT_INDENT_2) + b"\n"


def lines_of(content: bytes) -> list[bytes]:
    return content.splitlines(keepends=True)


def without(content: bytes, fragment: bytes) -> bytes:
    return b"".join(line for line in lines_of(content) if fragment not in line)


Damage = Callable[[dict[str, bytes], dict[str, bytes]], dict[str, bytes]]
KINDS: dict[str, tuple[Damage, str]] = {
    "targets are loosened": (lambda run, _: {PLAN_FILE: loosened(run[PLAN_FILE])}, "plan.json: not as it was written"),
    "the plan is that of another run": (
        lambda _, other: {PLAN_FILE: other[PLAN_FILE]},
        "plan.json: not as it was written",
    ),
    "requests of a round are gone": (
        lambda run, _: {REQUESTS_FILE: without(run[REQUESTS_FILE], b'"round":3,')},
        "requests.jsonl:13: missing, as are all up to 16",
    ),
    "the last requests are gone": (
        lambda run, _: {REQUESTS_FILE: b"".join(lines_of(run[REQUESTS_FILE])[:-4])},
        "requests.jsonl:29: missing, as are all up to 32",
    ),
    "a round is gone": (
        lambda run, _: {EVENTS_FILE: without(run[EVENTS_FILE], b'"round","round":3,')},
        "events.jsonl:11: missing",
    ),
    "a gate is gone": (lambda run, _: {EVENTS_FILE: without(run[EVENTS_FILE], b'"gate"')}, "events.jsonl:21: missing"),
    "a round of another run is pasted in": (
        lambda run, other: {
            REQUESTS_FILE: b"".join(
                (
                    *lines_of(run[REQUESTS_FILE])[:4],
                    *lines_of(other[REQUESTS_FILE])[4:8],
                    *lines_of(run[REQUESTS_FILE])[8:],
                )
            )
        },
        "requests.jsonl:5-8: not as it was written (its checksum is wrong)",
    ),
    "all requests are those of another run": (
        lambda _, other: {REQUESTS_FILE: other[REQUESTS_FILE]},
        "requests.jsonl:1-32: not as it was written (its checksum is wrong)",
    ),
    "a line is appended": (
        lambda run, _: {EVENTS_FILE: run[EVENTS_FILE] + b'{"event":"run_end","reason":"decided"}\n'},
        "events.jsonl:23: not as it was written",
    ),
    "a request is appended": (
        lambda run, _: {REQUESTS_FILE: run[REQUESTS_FILE] + lines_of(run[REQUESTS_FILE])[0]},
        "requests.jsonl:1: repeated or moved",
    ),
    "the first event is gone": (
        lambda run, _: {EVENTS_FILE: b"".join(lines_of(run[EVENTS_FILE])[1:])},
        "events.jsonl:1: missing",
    ),
    "the file has no end": (lambda run, _: {EVENTS_FILE: run[EVENTS_FILE] + b'{"event":"his'}, "events.jsonl:23: torn"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_where_a_record_is_damaged_is_said(
    tmp_path: Path, pristine: dict[str, bytes], other: dict[str, bytes], kind: str
) -> None:
    damage, said = KINDS[kind]
    directory = written(tmp_path / "run", {**pristine, **damage(pristine, other)})
    if kind == "all requests are those of another run":
        with pytest.raises(JournalError, match="the record is damaged, nothing of it can be judged"):
            read(directory)
        return
    recorded = read(directory)
    assert any(said in sentence for sentence in recorded.damage), recorded.damage
    report, _ = reported(recorded)
    assert report.verdict is Verdict.INVALID
    assert report.judgement.reasons[0] == f"the record is damaged: {recorded.damage[0]}"


def test_a_loosened_plan_is_not_what_the_run_is_judged_by(tmp_path: Path, pristine: dict[str, bytes]) -> None:
    directory = written(tmp_path / "run", {**pristine, PLAN_FILE: loosened(pristine[PLAN_FILE])})
    assert read(directory).plan == read(written(tmp_path / "whole", pristine)).plan


def test_what_stands_is_reported_beside_the_damage(tmp_path: Path, pristine: dict[str, bytes]) -> None:
    lines = lines_of(pristine[REQUESTS_FILE])
    lines[-1] = b"half a li" + lines[-1][20:]
    recorded = read(written(tmp_path / "run", {**pristine, REQUESTS_FILE: b"".join(lines)}))
    assert [one.round for one in recorded.rounds] == list(range(7)), "the damaged round alone is left out"
    assert len(recorded.orphans) == 3
    report, _ = reported(recorded)
    assert sum(trial.valid for trial in report.judgement.trials) == 2


@pytest.mark.parametrize("torn", [EVENTS_FILE, REQUESTS_FILE])
def test_a_torn_last_line_of_a_killed_run_is_no_damage_but_an_unfinished_run(tmp_path: Path, torn: str) -> None:
    directory = passing(tmp_path / "run", end=None)
    with (directory / torn).open("ab") as file:
        file.write(b'{"round":8,"ki')
    recorded = read(directory)
    assert (recorded.damage, recorded.unfinished) == ((), "killed")


def test_what_is_appended_to_a_torn_record_starts_a_line_of_its_own(tmp_path: Path) -> None:
    directory = passing(tmp_path / "run")
    with (directory / EVENTS_FILE).open("ab") as file:
        file.write(b'{"event":"his')
    append_event(directory, "history", release=None)
    recorded = read(directory)
    assert recorded.damage == ("events.jsonl:23: not as it was written (its checksum is wrong)",)
    assert recorded.history is not None


def test_an_event_appended_after_the_run_belongs_to_the_record(tmp_path: Path) -> None:
    directory = passing(tmp_path / "run")
    for text in ("first", "second"):
        append_event(directory, "history", release=text)
    recorded = read(directory)
    assert recorded.damage == ()
    assert recorded.history is not None
    assert recorded.history["release"] == "second"


def test_a_run_that_is_killed_while_something_is_measured_beside_it_has_not_ended(tmp_path: Path) -> None:
    plan: Plan = passing_plan(tmp_path).model_copy(update={"cold_tax": True})
    assert read(passing(tmp_path / "run", plan)).complete
    events = lines_of((tmp_path / "run" / EVENTS_FILE).read_bytes())
    (tmp_path / "run" / EVENTS_FILE).write_bytes(b"".join(events[:-1]))
    recorded = read(tmp_path / "run")
    assert (recorded.damage, recorded.unfinished) == ((), "killed")


FIRST_VERSION: dict[str, tuple[Damage, str]] = {
    "a request is gone": (
        lambda run, _: {REQUESTS_FILE: b"".join(lines_of(run[REQUESTS_FILE])[1:])},
        "requests.jsonl: round 0: 3 of its requests are on record, not all that were sent",
    ),
    "a request is there twice": (
        lambda run, _: {REQUESTS_FILE: run[REQUESTS_FILE] + lines_of(run[REQUESTS_FILE])[0]},
        "requests.jsonl: round 0: one of its requests is on record twice",
    ),
    "a round is gone": (
        lambda run, _: {EVENTS_FILE: without(run[EVENTS_FILE], b'"round","round":3,')},
        "events.jsonl: requests of round 3 are on record, the round is not",
    ),
    "a round and its requests are gone": (
        lambda run, _: {
            EVENTS_FILE: without(run[EVENTS_FILE], b'"round":3,'),
            REQUESTS_FILE: without(run[REQUESTS_FILE], b'"round":3,'),
        },
        "events.jsonl: nothing is on record of round 3",
    ),
    "a round is there twice": (
        lambda run, _: {EVENTS_FILE: run[EVENTS_FILE] + lines_of(run[EVENTS_FILE])[3]},
        "round 0 is on record twice",
    ),
    "a line is glued to half of another": (
        lambda run, _: {REQUESTS_FILE: run[REQUESTS_FILE][:90] + run[REQUESTS_FILE]},
        "requests.jsonl:1: ",
    ),
}


def test_a_record_of_the_first_version_is_read_without_complaint(tmp_path: Path) -> None:
    directory = as_first_version(passing(tmp_path / "run"))
    assert read(directory).damage == ()
    assert judged(directory) is Verdict.PASS
    append_event(directory, "history", release=None)
    assert read(directory).damage == ()
    assert (directory / EVENTS_FILE).read_bytes().endswith(b'{"event":"history","release":null}\n')


@pytest.mark.parametrize("kind", FIRST_VERSION)
def test_what_a_record_without_checksums_obviously_lacks_is_damage(tmp_path: Path, kind: str) -> None:
    directory = as_first_version(passing(tmp_path / "run"))
    damage, said = FIRST_VERSION[kind]
    written(directory, damage(contents(directory), {}))
    assert any(said in sentence for sentence in read(directory).damage), read(directory).damage
    assert judged(directory) is Verdict.INVALID


@pytest.mark.parametrize("name", [b'"run_end"', b'"gate"'])
def test_a_record_without_checksums_that_ends_twice_is_damaged(tmp_path: Path, name: bytes) -> None:
    directory = as_first_version(passing(tmp_path / "run"))
    events = (directory / EVENTS_FILE).read_bytes()
    again = next(line for line in lines_of(events) if name in line)
    (directory / EVENTS_FILE).write_bytes(events + again)
    assert judged(directory) is Verdict.INVALID


def test_a_record_without_checksums_never_crashes_its_reader(tmp_path: Path) -> None:
    pristine = contents(as_first_version(passing(tmp_path / "first")))
    chance, directory = random.Random(7), tmp_path / "run"
    for _ in range(300):
        name, damage = chance.choice(FILES), chance.choice(DAMAGES)
        with contextlib.suppress(MooncakeError):
            read(written(directory, {**pristine, name: damage(pristine[name], chance)}))


STRANGE = {
    "nothing": b"",
    "an empty line": b"\n",
    "no object": b"[]\n3\nnull\n",
    "no UTF-8": b'{"event":"\xff"}\n',
    "not a number": b'{"event":"round","round":NaN}\n',
    "a lone surrogate": b'{"event":"\\ud800"}\n',
    "a huge number": b'{"event":"round","round":' + b"9" * 6000 + b"}\n",
    "deep": b'{"event":"stack","view":' + b"[" * 200_000 + b"]" * 200_000 + b"}\n",
    "wrong types": b'{"event":"round","round":"x","before":3,"client":[]}\n{"event":"probes","answers":{"a":1}}\n'
    b'{"event":"gate","id":1,"status":"so so"}\n{"event":"run_end","reason":[]}\n{"event":"stack","view":"s"}\n'
    b'{"event":"calibration","bias_ms":null}\n{"event":"workload","notes":7}\n{"event":"environment","environment":[]}\n',
    "no end": b"{" * 1_000_000,
    "zeros": bytes(10_000),
}


@pytest.mark.parametrize("strange", STRANGE)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", FILES)
def test_whatever_a_file_holds_it_is_read_or_refused_in_one_line(
    tmp_path: Path, name: str, version: int, strange: str
) -> None:
    directory = passing(tmp_path / "run")
    if version == 1:
        as_first_version(directory)
    for content in (STRANGE[strange], (directory / name).read_bytes() + STRANGE[strange] + b"\n"):
        (directory / name).write_bytes(content)
        assert judged(directory) is not Verdict.PASS or (name, version) == (PLAN_FILE, 1), "white space is no damage"


@pytest.mark.parametrize("name", FILES)
def test_a_directory_in_the_place_of_a_file_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    directory = passing(tmp_path / "run")
    (directory / name).unlink()
    (directory / name).mkdir()
    with pytest.raises(JournalError, match="missing"):
        read(directory)
    shutil.rmtree(directory)
    with pytest.raises(JournalError, match="holds no run"):
        read(directory)


def test_fields_that_a_later_version_added_are_passed_over(tmp_path: Path) -> None:
    directory = as_first_version(passing(tmp_path / "run"))
    for name in (EVENTS_FILE, REQUESTS_FILE):
        lines = [orjson.loads(line) | {"since": 9} for line in lines_of((directory / name).read_bytes())]
        for line in lines:
            if "view" in line:
                line["view"] |= {"since": 9}
                line["view"]["engines"][0]["since"] = 9
        (directory / name).write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    assert read(directory).damage == ()
    assert judged(directory) is Verdict.PASS
