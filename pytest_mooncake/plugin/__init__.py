"""pytest hooks, nothing else. Imported by every pytest run in an environment that has the package, so it stays light.

The plugin wakes up only when a `--mooncake-*` option or ini value is given or a collected test asks for one of its
fixtures. Everything heavy is imported then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pytest_mooncake.plan.options import add_options, options_of

if TYPE_CHECKING:
    from pytest_mooncake.plugin.session import MooncakeSession

SESSION = pytest.StashKey["MooncakeSession"]()
REFUSED_UNDER_XDIST = pytest.StashKey[bool]()
OUR_OWN = "mooncake_session"
"""In the closure of every fixture that needs a run; names such as `run` or `stack` may be the user's own."""
CLAIM = "mooncake_claim"
XDIST_LINE = (
    "pytest-mooncake measures one stack with one clock and cannot be spread over xdist workers: "
    "leave out -n (or run the acceptance with -n 0)"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the `--mooncake-*` options and their ini twins."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Let others add report writers."""
    from pytest_mooncake.plugin import hookspecs

    pluginmanager.add_hookspecs(hookspecs)


def pytest_configure(config: pytest.Config) -> None:
    """Hand out the fixtures; refuse options that make no sense before anything is collected."""
    from pytest_mooncake.plugin import fixtures

    # not `pytest_plugins`: for that pytest would look through every installed distribution once more
    config.pluginmanager.register(fixtures, "mooncake-fixtures")
    options = options_of(config)
    if options.any_given:
        if getattr(config.option, "numprocesses", None):
            raise pytest.UsageError(XDIST_LINE)
        _session(config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that asks for `mooncake_claim` (`claim`) one case per claim of the run's targets."""
    if CLAIM not in metafunc.fixturenames:
        return
    try:
        mooncake = _session(metafunc.config)
        with mooncake.net():
            ids = mooncake.claim_ids()
    except pytest.UsageError:
        ids = ("unknown",)  # said by pytest_collection_finish, where pytest prints it as one line
    metafunc.parametrize(CLAIM, ids, indirect=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take the tests that need a run away from an xdist worker; its controller says so and exits with 4."""
    if not hasattr(config, "workerinput"):
        return
    others = [item for item in items if not _needs_run(item)]
    if len(others) < len(items):
        config.workeroutput["mooncake_refused"] = True  # type: ignore[attr-defined] # set by xdist
        items[:] = others


def pytest_collection_finish(session: pytest.Session) -> None:
    """Say what is wrong with the plan, or print it (`--mooncake-dry-run`), before the first test runs."""
    if any(_needs_run(item) for item in session.items):
        mooncake = _session(session.config)
        with mooncake.net():
            mooncake.collected()


def _needs_run(item: pytest.Item) -> bool:
    return OUR_OWN in getattr(item, "fixturenames", ())


def pytest_runtestloop(session: pytest.Session) -> object | None:
    """Run no test when only the plan was asked for."""
    mooncake = session.config.stash.get(SESSION, None)
    return True if mooncake is not None and mooncake.options.dry_run else None


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Name the run and its verdict in the JUnit properties of every test that rests on it."""
    mooncake = item.config.stash.get(SESSION, None)
    if mooncake is not None and _needs_run(item):
        item.user_properties.extend(mooncake.test_properties())


def pytest_exception_interact(node: pytest.Item | pytest.Collector, call: pytest.CallInfo[object]) -> None:
    """Notice that a test failed because this package did: no verdict stands on that."""
    mooncake = node.config.stash.get(SESSION, None)
    if mooncake is None or call.excinfo is None or not isinstance(node, pytest.Item) or not _needs_run(node):
        return
    from pytest_mooncake.run.endings.crash import is_ours

    if not isinstance(call.excinfo.value, pytest.exit.Exception) and is_ours(call.excinfo.value):
        mooncake.crashed(call.excinfo.value)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    """Notice that an xdist worker refused to measure."""
    if getattr(node, "workeroutput", {}).get("mooncake_refused"):
        node.config.stash[REFUSED_UNDER_XDIST] = True  # type: ignore[attr-defined] # xdist's node has a config


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Let the verdict decide the exit code: 1 whenever it is not PASS, 4 when nothing could be measured."""
    if session.config.stash.get(REFUSED_UNDER_XDIST, False):
        session.exitstatus = pytest.ExitCode.USAGE_ERROR
    _set_exit_status(session)
    yield
    _set_exit_status(session)  # the summary, which is printed meanwhile, may crash as well
    if session.exitstatus == pytest.ExitCode.INTERNAL_ERROR and session.config.stash.get(SESSION, None) is not None:
        session.config.stash[SESSION].say_crash()  # pytest prints no summary with this code


def _set_exit_status(session: pytest.Session) -> None:
    mooncake = session.config.stash.get(SESSION, None)
    if mooncake is None:
        return
    try:
        session.exitstatus = mooncake.exit_status(int(session.exitstatus))
    except Exception as error:
        mooncake.crashed(error)
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the summary tables, the verdict and where the files are."""
    if config.stash.get(REFUSED_UNDER_XDIST, False):
        terminalreporter.write_line(f"ERROR: {XDIST_LINE}", red=True)
    mooncake = config.stash.get(SESSION, None)
    if mooncake is None:
        return
    try:
        mooncake.summarise(terminalreporter)
    except Exception as error:
        mooncake.crashed(error)


def _session(config: pytest.Config) -> MooncakeSession:
    """The session's state, made at first use.

    Raises:
        pytest.UsageError: the options or a YAML file make no sense.
    """
    from pytest_mooncake.errors import MooncakeError
    from pytest_mooncake.plugin.session import MooncakeSession

    if SESSION not in config.stash:
        try:
            config.stash[SESSION] = MooncakeSession(config, options_of(config))
        except MooncakeError as error:
            raise pytest.UsageError(str(error)) from None
        except Exception as error:
            from pytest_mooncake.run.endings.crash import keep

            pytest.exit(f"ERROR: {keep(error, None)}", returncode=pytest.ExitCode.INTERNAL_ERROR)
    return config.stash[SESSION]


@pytest.fixture(scope="session")
def mooncake_session(request: pytest.FixtureRequest) -> MooncakeSession:
    """State of this session's run; the other fixtures are made from it."""
    return _session(request.config)
