"""Who watches a run: every event goes into the journal first, then onto the progress display."""

from __future__ import annotations

import time
from collections.abc import Callable

from pytest_mooncake.journal import Journal
from pytest_mooncake.records import Gate, GateStatus, Judgement, Kind, ProbeAnswer, RequestRecord, Round
from pytest_mooncake.run.progress import WARNING, Progress, RoundProgress, progress_line
from pytest_mooncake.run.protocol import Step


class RunObserver:
    """Writes the journal and tells people. Used from the measuring thread only."""

    def __init__(self, journal: Journal, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._journal = journal
        self._progress = progress
        self._clock = clock
        self._step: Step | None = None
        self._planned = 0
        self._ttft_sum_ms = 0.0
        self._ttft_count = 0
        self._done = 0
        self._failed = 0
        self._started_s = 0.0
        self._warned = False
        self._clearing: tuple[str, ...] = ()

    def round_starts(self, step: Step, planned: int) -> None:
        """A round is about to be sent."""
        self._step, self._planned, self._done, self._failed = step, planned, 0, 0
        self._ttft_sum_ms, self._ttft_count = 0.0, 0
        self._started_s = self._clock()
        self._journal.event("round_start", round=step.round, kind=step.kind, phase=step.phase, nonce=step.nonce)
        self._show()

    def request_done(self, record: RequestRecord) -> None:
        """Keep the record, then count it."""
        self._journal.request(record)
        self._done += 1
        self._failed += record.error is not None
        if record.sent_ns is not None and record.first_token_ns is not None:
            self._ttft_sum_ms += (record.first_token_ns - record.sent_ns) / 1e6
            self._ttft_count += 1
        self._show()

    @property
    def _ttft_ms(self) -> float | None:
        return self._ttft_sum_ms / self._ttft_count if self._ttft_count else None

    def _show(self) -> None:
        if self._step is None:
            return
        self._progress.tick(
            progress_line(
                RoundProgress(
                    name=self._step.name,
                    kind=self._step.kind,
                    done=self._done,
                    planned=self._planned,
                    failed=self._failed,
                    elapsed_s=self._clock() - self._started_s,
                    ttft_ms=self._ttft_ms,
                )
            )
        )

    def round_done(self, step: Step, measured: Round) -> None:
        """Keep what is known of the round, then print its line."""
        self._journal.round(measured)
        seconds = (measured.ended_ns - measured.started_ns) / 1e9
        ttft = "no tokens" if self._ttft_ms is None else f"TTFT {self._ttft_ms:7.0f} ms"
        cached = sum(r.cached_tokens or 0 for r in measured.requests)
        prompt = sum(r.prompt_tokens or 0 for r in measured.requests)
        line = f"round {step.name:<8} {step.kind:<4} {seconds:6.1f} s  {ttft}  cached {cached:,}/{prompt:,} tokens"
        if measured.settle and step.kind is Kind.COLD:
            line += f"  stored after {measured.settle.seconds:.1f} s"
        if self._failed:
            line += f"  {self._failed} FAILED"
        self._progress.say(line)

    def judged(self, judgement: Judgement) -> None:
        """Say how the run stands after a trial."""
        self._journal.event("look", verdict=judgement.verdict, trials=judgement.details["valid_trials"])
        trial = judgement.trials[-1]
        if not trial.valid:
            self._progress.say(f"trial {trial.index} is invalid: {trial.reasons[0]}")
            return
        done = judgement.details["valid_trials"]
        # not the last word: the client's own error is measured once more after the chain, and the gates are to come
        self._progress.say(f"after {done} trial{'s' if done > 1 else ''}, so far: {judgement.verdict}")
        found = judgement.details.get("feasibility")
        if found is not None and not found["feasible"] and not self._warned:
            self._warned = True
            self._progress.say(f"{WARNING}{found['text']}; Ctrl-C ends the run and keeps what was measured")

    def probed(self, answers: tuple[ProbeAnswer, ...], gate: Gate) -> None:
        """Keep the correctness gate's answers and what became of it, then say it."""
        if answers:
            self._journal.event("probes", answers=answers)
        self._journal.event("gate", id=gate.id, status=gate.status, reason=gate.reason)
        name = f"{gate.id.replace('_', ' ')} gate"
        if gate.status is not GateStatus.MADE:
            self._progress.say(f"{name}: {gate.status.replace('_', ' ')}: {gate.reason}")
            return
        failed = sum(answer.error is not None for answer in answers)
        self._progress.say(f"{name}: {len(answers)} short requests" + (f", {failed} FAILED" if failed else ""))

    def note(self, event: str, **values: object) -> None:
        """Keep what happened beside the rounds.

        What is going to be cleared is said before it is, once; so is a need of the store that nobody could work out.
        """
        self._journal.event(event, **values)
        if event == "store_budget" and values.get("known") is False:
            self._progress.say(f"{WARNING}{values['sentence']}")
        lines = values.get("plan")
        if event == "clearing" and isinstance(lines, tuple) and lines != self._clearing:
            self._clearing = lines
            self._progress.say(f"clearing, as --mooncake-allow-clear permits: {'; '.join(lines)}")
