"""The contract of an engine, as a class of pytest tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ambi_eval.answers.candidate import Candidate
from ambi_eval.audio import AudioSpan
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.doctor.checks import CHECKS
from ambi_eval.doctor.subject import LABELS, QUESTION, Subject
from ambi_eval.engines.base import Engine, Job
from ambi_eval.errors import AmbiError

GREEDY = GenerationSettings(max_gen_toks=6)
SAMPLED = GenerationSettings(do_sample=True, temperature=1.0, max_gen_toks=6)
BEAMS = GenerationSettings(num_beams=3, max_gen_toks=6)

Ask = Callable[..., Job]


class EngineContract:
    """Tests that hold for every engine. Inherit from it, and give the engine as a fixture:

        from ambi_eval.testing import EngineContract

        @pytest.fixture(scope="module")
        def engine():
            return MyEngine(MyArguments(...))

        class TestMyEngine(EngineContract):
            pass

    What an engine cannot do by its `capabilities` must be refused; what it can do is held against the contract.
    """  # noqa: D415

    @pytest.fixture
    def subject(self, engine: Engine, tmp_path: Path) -> Subject:
        """The engine with voices to ask it about."""
        return Subject(engine, tmp_path)

    @pytest.fixture
    def ask(self, subject: Subject) -> Ask:
        """Make a job about a voice of so many seconds."""

        def job(settings: GenerationSettings = GREEDY, seconds: float = 1.0, voice: int = 0, **more: Any) -> Job:
            return Job(QUESTION, (AudioSpan(subject.voice(seconds, voice)),), settings, **more)

        return job

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_doctor_finds_nothing_wrong(self, subject: Subject, check: Callable[[Subject], str]) -> None:
        """A check passes, or the engine says in one sentence that it cannot do what the check asks for."""
        try:
            said = check(subject)
        except AmbiError as refusal:
            said = str(refusal)
        assert len(said.splitlines()) == 1

    def test_what_it_says_of_itself_is_json(self, engine: Engine) -> None:
        """Name and identity are not empty; everything can be written with the results."""
        assert engine.name
        assert engine.identity
        for said in (engine.identity, engine.provenance, engine.counts(), engine.info()):
            assert json.loads(json.dumps(dict(said), allow_nan=False)) == dict(said)

    def test_every_answer_comes_once_under_its_number(self, engine: Engine, ask: Ask) -> None:
        """Jobs of all kinds together: each gets the answers that it asks for, and no others."""
        jobs = [ask(), ask(seconds=0.3, voice=1)]
        if engine.capabilities.sampling:
            jobs += [ask(SAMPLED, numbers=(0, 1, 2)), ask(SAMPLED, seconds=2.0, numbers=(4, 1))]
        if engine.capabilities.beams:
            jobs += [ask(BEAMS, numbers=(0, 1))]
        engine.check(jobs)
        found: dict[Job, list[int]] = {job: [] for job in jobs}
        for job, answers in engine.generate(jobs):
            assert all(isinstance(answer, Candidate) for answer in answers.values())
            found[job] += answers
        assert {job: sorted(numbers) for job, numbers in found.items()} == {job: sorted(job.numbers) for job in jobs}, (
            engine.last_failure
        )

    def test_a_sample_depends_on_its_number_and_not_on_its_company(self, engine: Engine, ask: Ask) -> None:
        """Some answers of a pool are those that the whole pool has; another seed gives another pool."""
        if not (engine.capabilities.sampling and engine.capabilities.seeds):
            pytest.skip("the engine draws no samples that come again")
        whole, other = ask(SAMPLED, numbers=range(8), seed=1), ask(SAMPLED, numbers=range(8), seed=2)
        some = ask(SAMPLED, numbers=(6, 2), seed=1)
        pools = answers_to(engine, [whole, other])
        (again,) = answers_to(engine, [some])
        assert again == {number: pools[0][number] for number in (6, 2)}
        assert pools[0] != pools[1]

    def test_a_prompt_without_audio_is_answered(self, engine: Engine) -> None:
        """A control may leave the audio out."""
        ((answer,),) = [each.values() for each in answers_to(engine, [Job("Which emotion?", settings=GREEDY)])]
        assert isinstance(answer, Candidate)

    def test_likelihoods_come_in_the_order_of_the_continuations(self, engine: Engine, ask: Ask) -> None:
        """The same likelihoods in another order, and in two jobs; or a refusal."""
        wanted = [(label, True) for label in LABELS]
        one, other = ask(continuations=wanted), ask(continuations=wanted[::-1])
        if not engine.capabilities.likelihoods:
            with pytest.raises(AmbiError, match="likelihoods"):
                list(engine.loglikelihoods([one]))
            return
        found = dict(engine.loglikelihoods([one, other]))
        assert [logprob for logprob, _ in found[one]] == pytest.approx(
            [logprob for logprob, _ in found[other]][::-1], abs=1e-3
        )
        assert all(logprob <= 0 and isinstance(greedy, bool) for logprob, greedy in found[one])

    def test_beams_are_refused_where_there_are_none(self, engine: Engine, ask: Ask) -> None:
        """Before the first job is answered."""
        if engine.capabilities.beams:
            pytest.skip("the engine has beams")
        with pytest.raises(AmbiError, match="beam"):
            engine.check([ask(), ask(BEAMS, numbers=range(3))])


def answers_to(engine: Engine, jobs: Sequence[Job]) -> list[dict[int, Candidate]]:
    """Return the answers to each job by their number."""
    found: dict[Job, dict[int, Candidate]] = {job: {} for job in jobs}
    for job, answers in engine.generate(jobs):
        found[job] |= answers
    return [found[job] for job in jobs]
