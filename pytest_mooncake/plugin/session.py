"""What one pytest session knows of its run: options, plan, stack, outcome; and how it ends."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_mooncake.errors import MooncakeError, ReportError
from pytest_mooncake.history.store_run import Stored, refuse_unreachable, store_run
from pytest_mooncake.journal import Recorded, read
from pytest_mooncake.plan.models import Plan
from pytest_mooncake.plan.options import Options, invocation_dir
from pytest_mooncake.plan.replay import judged_by
from pytest_mooncake.plan.resolve import new_run_id, resolve
from pytest_mooncake.plan.secrets.credentials import redactor_of
from pytest_mooncake.plugin.publish import publish, workflow_commands
from pytest_mooncake.records import StackView
from pytest_mooncake.report import exit_codes
from pytest_mooncake.run.endings import signals
from pytest_mooncake.run.endings.crash import CRASHES, keep
from pytest_mooncake.run.environment import describe
from pytest_mooncake.run.phases.release import with_release
from pytest_mooncake.run.plan_check import check_plan
from pytest_mooncake.run.progress import WARNING, Console, Progress, Quiet, Silent
from pytest_mooncake.run.run_directory import refuse_occupied, report_directory
from pytest_mooncake.run.runner import Outcome, conclude, conduct, message_of, open_stack

if TYPE_CHECKING:
    from pytest_mooncake.analysis.outlook.power_lines import Past
    from pytest_mooncake.records import Judgement

INTERNAL_ERROR = int(pytest.ExitCode.INTERNAL_ERROR)
LEAST_COLUMNS = 60
MOST_COLUMNS = 120
"""Longer lines are hard to read, and tables gain nothing."""


def _what_failed(error: MooncakeError) -> str:
    """What an error says of the run as a whole."""
    if isinstance(error, ReportError):
        return "measured, but not reported (pytest-mooncake verdict and report judge the record once there is room)"
    return "nothing could be measured"


def _write_nothing(_line: str) -> None:
    """Where pytest has no terminal."""


class MooncakeSession:
    """State of one session; made at first use, kept in `config.stash`.

    Raises:
        MooncakeError: the options or a YAML file make no sense (raised by the constructor, before anything starts).
    """

    def __init__(self, config: pytest.Config, options: Options) -> None:
        self.options = options
        self._config = config
        self._here = invocation_dir(config)
        self._replayed: Recorded | None = self._record(options.replay) if options.replay else None
        self.plan: Plan = self._replayed.plan if self._replayed else resolve(options, self._here)
        if options.report:
            refuse_occupied(self._here / options.report, replay=self.is_replay)
        if self._writes_history:
            refuse_unreachable(options, self._here)
        self._outcome: Outcome | None = None
        self._error: MooncakeError | None = None
        self._crash: str | None = None
        self._interrupted: Path | None = None
        self._complaints: tuple[str, ...] = ()
        self._stored = Stored()
        self._restart: Callable[[Progress], StackView] | None = None
        self._starts = 1

    def _record(self, directory: str) -> Recorded:
        """A recorded run, to be judged by what the options say of targets, costs and language, else as it was."""
        recorded = read(self._here / directory)
        return replace(recorded, plan=judged_by(recorded.plan, self.options, self._here))

    @property
    def is_replay(self) -> bool:
        """Whether a recorded run is judged again, which sends nothing to anybody."""
        return self._replayed is not None

    @property
    def _writes_history(self) -> bool:
        """Whether this session's run goes into a history: a replay is no new run, a dry run none at all."""
        return not self.is_replay and not self.options.dry_run

    def claim_ids(self) -> tuple[str, ...]:
        """Ids of the claims and thresholds of this run's targets, in their order."""
        targets = self.plan.targets
        claims = (claim.claim_id for claim in targets.claims)
        return (*claims, *(threshold.claim_id for threshold in targets.thresholds))

    def collected(self) -> None:
        """Print the plan and let no test run, when only the plan was asked for."""
        if self.options.dry_run:
            from pytest_mooncake.plugin.dry_run import plan_lines

            reporter = self._reporter()
            write = reporter.write_line if reporter is not None else _write_nothing
            try:
                for line in plan_lines(self.plan, self._past(write)):
                    write(line)
            except MooncakeError as refusal:
                self._error = refusal

    def _past(self, tell: Callable[[str], None]) -> Past | None:
        """Earlier runs of the kind: those of the history where one is named, else the newest record."""
        from pytest_mooncake.history.prior_runs import past_in_history, past_of
        from pytest_mooncake.history.store_run import history_url

        url = history_url(self.options)
        known = past_in_history(self.plan, describe(self._here), url, self._here) if url is not None else None
        return known or past_of(self.plan, self._here, tell)

    def _warn_of_the_past(self, progress: Progress) -> None:
        """Say before anything is started what could not be met in earlier runs of the kind; never a refusal."""
        try:
            past = None if self.plan.quick else self._past(progress.say)
        except MooncakeError:
            return  # the history itself has been opened before, and what fails in storing into it is said then
        if past is not None and past.feasibility is not None and not past.feasibility["feasible"]:
            progress.say(f"{WARNING}as in {past.name}: {past.feasibility['text']}")

    @contextlib.contextmanager
    def opened_stack(self) -> Iterator[StackView]:
        """The stack under test for the length of the session (of a replay: as it was recorded)."""
        with self.net(), signals.handled():
            if self._replayed is not None:
                if self._replayed.view is None:
                    self._give_up(MooncakeError(f"{self._replayed.directory}: the record says nothing of its stack"))
                yield self._replayed.view
                return
            with contextlib.ExitStack() as opened:
                view = self._open(opened)
                self._restart = partial(self._opened_again, opened)
                yield view

    def _open(self, opened: contextlib.ExitStack) -> StackView:
        with self._uncaptured() as progress:
            try:
                check_plan(self.plan)
                self._warn_of_the_past(progress)
                view = opened.enter_context(open_stack(self.plan, self._directory / "logs", progress))
            except MooncakeError as error:
                self._give_up(error)
            for note in () if view.simulated else view.notes:  # the summary says what it was
                progress.say(note)
        return view

    def _opened_again(self, opened: contextlib.ExitStack, progress: Progress) -> StackView:
        """Stop the stack and start it anew, with logs of its own; used where trials are spread over engine starts."""
        self._starts += 1
        progress.say(f"engine start {self._starts}")
        opened.close()
        return opened.enter_context(open_stack(self.plan, self._directory / "logs" / f"start-{self._starts}", progress))

    def measured(self, view: StackView) -> Outcome:
        """Measure once, or judge the recorded run again."""
        if self._outcome is None:
            with self.net(), self._uncaptured() as progress:
                try:
                    self._outcome = self._conduct(view, progress)
                except MooncakeError as error:
                    self._give_up(error)
                except KeyboardInterrupt:
                    self._interrupted = self._directory
                    raise
        return self._outcome

    def _conduct(self, view: StackView, progress: Progress) -> Outcome:
        if self._replayed is None:
            restart = partial(self._restart, progress) if self._restart else None
            return conduct(self.plan, view, self._directory, progress, restart, then=self._kept)
        with signals.held():
            outcome = conclude(self._replayed, self._directory)
            return self._published(self._compared(outcome, keep=False))

    def _kept(self, outcome: Outcome) -> Outcome:
        """All that is done with an outcome: the history, the comparison with it, other people's reports."""
        self._stored = store_run(self.options, self._here, outcome.recorded, outcome.view, outcome.judgement)
        self._outcome = self._published(self._compared(outcome, keep=not self._stored.complaints))
        return self._outcome

    def _compared(self, outcome: Outcome, *, keep: bool) -> Outcome:
        """With the release held against the history; a failure costs a line, not the run."""
        try:
            return with_release(self.options, self._here, outcome, keep=keep, on_record=not self.is_replay)
        except MooncakeError as error:
            complaint = f"the release was not compared: {error}"
            self._stored = replace(self._stored, complaints=(*self._stored.complaints, complaint))
            return outcome

    def _published(self, outcome: Outcome) -> Outcome:
        published = publish(
            self._config.hook,
            outcome.report,
            outcome.directory,
            outcome.files,
            environ=os.environ,
            lang=outcome.recorded.plan.lang,
        )
        self._complaints = published.complaints
        return replace(outcome, files=(*outcome.files, *published.files))

    @cached_property
    def _directory(self) -> Path:
        run_id = f"replay-{new_run_id()}" if self.is_replay else self.plan.run_id
        return report_directory(self.options.report, run_id, self._here)

    def _give_up(self, error: MooncakeError) -> NoReturn:
        self._error = error
        pytest.exit(f"{_what_failed(error)}, see the last lines", returncode=error.exit_code)

    @contextlib.contextmanager
    def net(self) -> Iterator[None]:
        """End the session where this package itself fails: without a verdict, with what was measured."""
        try:
            yield
        except (MooncakeError, pytest.UsageError, pytest.exit.Exception):
            raise
        except CRASHES as error:
            self.crashed(error)
            pytest.exit("internal error of pytest-mooncake, see the last lines", returncode=INTERNAL_ERROR)

    def crashed(self, error: BaseException) -> None:
        """Keep the first error of this package itself; what follows it tells nothing new."""
        if self._crash is None:
            directory = None
            with contextlib.suppress(Exception):  # it may be what failed
                directory = self._directory
            run_id = self.plan.run_id
            self._crash = keep(error, directory, run_id=run_id, plan=self.plan, recorded=self._replayed)

    def _reporter(self) -> pytest.TerminalReporter | None:
        reporter: pytest.TerminalReporter | None = self._config.pluginmanager.get_plugin("terminalreporter")
        return reporter

    @contextlib.contextmanager
    def _uncaptured(self) -> Iterator[Progress]:
        """Progress that reaches the terminal although pytest captures output."""
        reporter = self._reporter()
        if reporter is None or self._config.get_verbosity() < -1:
            yield Silent()
            return
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        silence = capture.global_and_fixture_disabled() if capture is not None else contextlib.nullcontext()

        def write(text: str) -> None:
            reporter.ensure_newline()
            reporter.write(text, flush=True)

        with silence:
            quiet = self._config.get_verbosity() < 0
            yield Quiet(write) if quiet else Console(write, live=bool(reporter.isatty) and not os.environ.get("CI"))

    def exit_status(self, status: int) -> int:
        """Pytest's exit code, corrected by what the run and its release came to, whatever tests were selected."""
        if self._crash is not None:
            return INTERNAL_ERROR
        if self._error is not None:
            return self._error.exit_code
        if status in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED} and self.options.dry_run:
            return pytest.ExitCode.OK
        if status == pytest.ExitCode.OK and self._outcome is not None:
            return exit_codes.of_pytest(self._outcome.report)
        return status

    def _judgement(self) -> Judgement | None:
        return self._outcome.judgement if self._outcome is not None else None

    def test_properties(self) -> tuple[tuple[str, str], ...]:
        """JUnit properties of every test that rests on the run: which one, and what it came to."""
        judgement = self._judgement()
        if judgement is None:
            return ()
        return (("mooncake.run", self.plan.run_id), ("mooncake.run_verdict", judgement.verdict.value))

    def summarise(self, reporter: pytest.TerminalReporter) -> None:
        """Print what the run came to, or in one line why there was none."""
        if self._crash is not None:
            return  # `say_crash` says it, last of all
        if self._error is not None:
            reporter.section("mooncake", sep="=", red=True)
            said = redactor_of(self.plan, os.environ).redacted(message_of(self._error))
            reporter.write_line(f"ERROR: {_what_failed(self._error)}: {said}", red=True)
        elif self._interrupted is not None:
            reporter.section("mooncake", sep="=", yellow=True)
            reporter.write_line(f"interrupted; what was measured is kept in {self._interrupted}")
            if self._outcome is not None:  # the run was over; whoever interrupted it still wants to know
                self._summarise_outcome(reporter, self._outcome)
        elif self._outcome is not None:
            reporter.section("mooncake", sep="=")
            self._summarise_outcome(reporter, self._outcome)

    def say_crash(self) -> None:
        """Say in one line that this package failed, where it did."""
        if self._crash is None:
            return
        reporter = self._reporter()
        if reporter is None:
            sys.stderr.write(f"ERROR: {self._crash}\n")
            return
        reporter.section("mooncake", sep="=", red=True)
        reporter.write_line(f"ERROR: {self._crash}", red=True)

    def _summarise_outcome(self, reporter: pytest.TerminalReporter, outcome: Outcome) -> None:
        from pytest_mooncake.report.formats.terminal import summary_lines

        for line in summary_lines(
            outcome.report,
            files=outcome.files,
            lang=self.plan.lang,
            color=reporter.hasmarkup,
            columns=self._columns(),
            verbosity=self._config.get_verbosity(),
        ):
            reporter.line(line)
        for line in self._stored.lines:
            reporter.line(line)
        for further in (outcome.report.release, outcome.report.versus):
            if further is not None:
                reporter.line(further.text_zh if self.plan.lang == "zh" else further.text)
        for complaint in (*self._stored.complaints, *self._complaints):
            reporter.line(f"WARNING: {complaint}", yellow=True)
        for command in workflow_commands(outcome.report, os.environ, self.plan.lang):
            reporter.line(command)

    def _columns(self) -> int:
        """Width of the terminal (80 where there is none), within what can be read."""
        return max(LEAST_COLUMNS, min(MOST_COLUMNS, self._config.get_terminal_writer().fullwidth))
