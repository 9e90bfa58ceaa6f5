"""`hf-audio` behind the bridge: over HTTP it gives the very answers and likelihoods that it gives the harness."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ambi_eval.audio import AudioSpan, audio_digest
from ambi_eval.config.generation import GenerationSettings
from ambi_eval.engines.hf.sampling import row_key
from ambi_eval.errors import AmbiError
from ambi_eval.inference.question import AUDIO_MARK, Question, as_context
from ambi_eval.models.bridge import Answer, Audio, BridgeError, Chat, Reply
from ambi_eval.models.hf_audio import HFAudio


class BridgedHFAudio(HFAudio):
    """An `hf-audio` that answers requests of a bridge; those that wait are decoded together."""

    def __init__(self, pretrained: str | None = None, **options: Any) -> None:
        """Load a checkpoint.

        Args:
            pretrained: As for `hf-audio`.
            **options: As for `hf-audio`, but for `store`: the answers are kept where they are asked for.

        Raises:
            AmbiError: If an argument is unknown or impossible, or if the checkpoint cannot be used.
        """
        if "store" in options:
            raise AmbiError("a bridge keeps no answers: give store= to openai-audio, not to the bridge")
        super().__init__(pretrained, store="none", **options)
        # Clients need not know where a checkpoint lies.
        self.served_name = Path(self.pretrained).resolve().name if Path(self.pretrained).is_dir() else self.pretrained
        self.pretrained = self.served_name
        self.fingerprint = self.digest[:16]

    def answer(self, chats: Sequence[Chat]) -> Iterator[tuple[Chat, Reply]]:
        """Yield each request with its reply.

        Raises:
            BridgeError: If one of them is impossible.
        """
        asked = {_question(chat): chat for chat in chats}
        try:
            scored = {each: [(text, True) for text in chat.ambi_continuations or ()] for each, chat in asked.items()}
            for question, scores in self.score({each: texts for each, texts in scored.items() if texts}):
                yield asked[question], Reply(loglikelihoods=scores)
            answered = [question for question in asked if not scored[question]]
            for question in answered:
                question.settings = _settings(asked[question])
            prompts = self._prompts(answered, lambda each: self._keys(each, asked[each]))
            for prompt, made in self.scheduler.generate(prompts):
                chat = asked[prompt.owner]
                answers = [Answer(str(each), each.logprob, each.n_tokens, each.finish) for each in made]
                # All greedy answers are one.
                yield chat, Reply(answers * (chat.n // len(answers)), (), prompt.inputs["input_ids"].shape[1])
        except AmbiError as error:
            raise BridgeError(_without_paths(str(error), chats)) from error

    def _keys(self, question: Question, chat: Chat) -> list[int]:
        """Return the noise keys that `hf-audio` would give these samples; without a seed, those of a random one."""
        settings = question.settings
        if not settings.sampled:
            return [0] * (chat.n if settings.num_beams > 1 else 1)
        given = (chat.ambi_seed, chat.seed, secrets.randbits(63))
        seed = next(each for each in given if each is not None)
        heard = chat.ambi_audio_digests or [audio_digest(span) for span in question.spans]
        drawn = (settings.temperature, settings.top_k, settings.top_p)
        numbers = chat.ambi_samples or range(chat.n)
        return [row_key(seed, self.digest, question.context, *heard, *drawn, number) for number in numbers]


def _without_paths(message: str, chats: Sequence[Chat]) -> str:
    for audio in (audio for chat in chats for audio in chat.audios):
        message = message.replace(str(audio.path), "the audio")
    return message


def _question(chat: Chat) -> Question:
    texts = [chat.system or "", *(part for part in chat.parts if not isinstance(part, Audio))]
    if any(AUDIO_MARK in text for text in texts):
        raise BridgeError(f"the text holds {AUDIO_MARK}, which stands for an audio: write it in another way")
    prompt = "".join(AUDIO_MARK if isinstance(part, Audio) else part for part in chat.parts)
    system = [{"role": "system", "content": chat.system}] if chat.system else []
    context = as_context([*system, {"role": "user", "content": prompt}])
    return Question(context, tuple(AudioSpan(str(audio.path)) for audio in chat.audios))


def _settings(chat: Chat) -> GenerationSettings:
    return GenerationSettings.from_kwargs(
        {
            "temperature": chat.temperature,
            "top_k": chat.top_k,
            "top_p": chat.top_p,
            "num_beams": chat.ambi_beams or 1,
            "length_penalty": chat.length_penalty if chat.ambi_beams else 0.0,
            "until": chat.stop or (),
            "max_gen_toks": chat.max_tokens,
        }
    )
