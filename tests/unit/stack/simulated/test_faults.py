from __future__ import annotations

import pytest

from pytest_mooncake.errors import UsageError
from pytest_mooncake.stack.simulated.faults import Faults, fault_names, parse_faults


def test_no_words_mean_no_faults() -> None:
    assert parse_faults(()) == Faults()


def test_switches_and_numbers_are_read() -> None:
    assert parse_faults(["warm-misses", "fail-every:3", "slow-first-token:0.5"]) == Faults(
        warm_misses=True, fail_every=3, slow_first_token=0.5
    )


def test_every_name_is_accepted_in_its_own_form() -> None:
    for name in fault_names():
        is_switch = getattr(Faults(), name.replace("-", "_")) is False
        parse_faults([name if is_switch else f"{name}:2"])


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("warm-miss", "did you mean 'warm-misses'?"),
        ("zzz", "known: cold-hits"),
        ("cold-hits:1", "takes no value"),
        ("fail-every", "needs a positive number"),
        ("fail-every:0", "needs a positive number"),
        ("fail-every:-1", "needs a positive number"),
        ("fail-every:1.5", "needs a positive number"),
        ("slow-first-token:nan", "needs a positive number"),
        ("slow-first-token:inf", "needs a positive number"),
        ("slow-first-token:x", "needs a positive number"),
    ],
)
def test_a_wrong_word_is_refused_with_one_line_that_names_it(word: str, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_faults([word])
    message = str(raised.value)
    assert says in message
    assert repr(word) in message
    assert "\n" not in message
