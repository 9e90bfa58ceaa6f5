"""An engine that the bridge serves: over HTTP it gives the same answers and likelihoods as to the harness."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from ambi_eval.answers.candidate import Candidate
from ambi_eval.audio import AudioSpan
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.config.prompts import AUDIO_MARK
from ambi_eval.engines.base import Engine, Job
from ambi_eval.engines.prompt import as_prompt
from ambi_eval.errors import AmbiError
from ambi_eval.models.bridge import Answer, Audio, BridgeError, Chat, Reply


class BridgedEngine:
    """An engine that answers requests of a bridge; those that wait are answered together.

    Attributes:
        served_name: The model's name for clients, who need not know where a checkpoint is.
        fingerprint: The first digits of the digest of its weights; None where the engine has none.
    """

    def __init__(self, engine: Engine, name: str | None = None) -> None:
        """Serve an engine; by default under the name of its model, without the folder."""
        self.engine = engine
        self.served_name = name or (Path(engine.name).resolve().name if Path(engine.name).is_dir() else engine.name)
        digest = engine.identity.get("digest")
        self.fingerprint = digest and str(digest)[:16]

    def answer(self, chats: Sequence[Chat]) -> Iterator[tuple[Chat, Reply]]:
        """Yield each request with its reply; raises BridgeError if one of them is impossible."""
        asked = {_job(chat): chat for chat in chats}
        try:
            for job in asked:
                self.engine.note_audio(job.spans)
            self.engine.is_cut.clear()  # the audio of another request has another path
            scored = [job for job in asked if job.continuations]
            for job, likelihoods in self.engine.loglikelihoods(scored) if scored else ():
                yield asked[job], Reply(loglikelihoods=likelihoods)
            generated = [job for job in asked if not job.continuations]
            if generated:
                self.engine.check(generated)
            found: dict[Job, dict[int, Candidate]] = {job: {} for job in generated}
            for job, made in self.engine.generate(generated) if generated else ():
                found[job] |= made
                if len(found[job]) == len(job.numbers):
                    answers = [
                        Answer(str(each), each.logprob, each.n_tokens, each.finish, each.thinking_tokens or 0)
                        for each in (found[job][number] for number in job.numbers)
                    ]
                    # All greedy answers are one.
                    yield asked[job], Reply(answers * (asked[job].n // len(answers)), (), job.prompt_tokens)
        except AmbiError as error:
            raise BridgeError(self._without_paths(str(error), chats)) from error

    def _without_paths(self, message: str, chats: Sequence[Chat]) -> str:
        for audio in (audio for chat in chats for audio in chat.audios):
            message = message.replace(str(audio.path), "the audio")
        return message.replace(self.engine.name, self.served_name)


def _job(chat: Chat) -> Job:
    texts = [chat.system or "", *(part for part in chat.parts if not isinstance(part, Audio))]
    if any(AUDIO_MARK in text for text in texts):
        raise BridgeError(f"the text holds {AUDIO_MARK}, which marks the place of an audio: write it in another way")
    question = "".join(AUDIO_MARK if isinstance(part, Audio) else part for part in chat.parts)
    system = [{"role": "system", "content": chat.system}] if chat.system else []
    settings = GenerationSettings.read(
        {
            "temperature": chat.temperature,
            "top_k": chat.top_k,
            "top_p": chat.top_p,
            "num_beams": chat.ambi_beams or 1,
            "length_penalty": chat.length_penalty if chat.ambi_beams else 0.0,
            "until": chat.stop or (),
            "max_gen_toks": chat.max_tokens,
        },
        "this request",
    )
    numbers = chat.ambi_samples or range(chat.n)
    seeds = (chat.ambi_seed, chat.seed, secrets.randbits(63))
    return Job(
        as_prompt([*system, {"role": "user", "content": question}]),
        tuple(AudioSpan(str(audio.path)) for audio in chat.audios),
        settings,
        next(seed for seed in seeds if seed is not None),
        numbers if settings.sampled or settings.num_beams > 1 else [0],
        [(text, True) for text in chat.ambi_continuations or ()],
        digests=chat.ambi_audio_digests,
        task="this request",
    )
