"""Supervised references: predictions by probes of an audio encoder of transformers, or of eGeMAPS features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

from ambi_eval.analysis.information.folds import Folds
from ambi_eval.analysis.information.probes import Probes, Reading
from ambi_eval.analysis.references.supervised import save_supervised
from ambi_eval.audio import AudioSpan, Samples, audio_digest, load_ahead, load_audio
from ambi_eval.config.load import load_corpus
from ambi_eval.corpora.select import corpus_clips, select
from ambi_eval.corpora.selection import Selection
from ambi_eval.engines.hf.loading import processor_digest, torch_device, weights_digest
from ambi_eval.errors import AmbiError
from ambi_eval.funnel.recorder import States, pooled, recorded_layers
from ambi_eval.funnel.states import StateFolder
from ambi_eval.paths import data_dir

logger = logging.getLogger(__name__)

EGEMAPS = "egemaps"
SAMPLE_RATE = 16_000
CLIPS_AHEAD = 16

# A function from samples at 16 kHz to the pooled states of each place.
StatesOf = Callable[[Samples], States]


def probe(encoder: str, corpus: str, metadata: str, device: str | None = None) -> tuple[str, Reading, Selection, Path]:
    """Fit probes of an encoder to the votes of a corpus, and store the predictions as a reference of that corpus.

    Inner folds choose the layer, as in the funnel. The encoder is `egemaps`, or a checkpoint of transformers with an
    audio encoder: a folder or a repository. The corpus is a name or the path of a YAML file, of which `metadata` may
    choose a part.

    Return the reference's name, the probe's predictions, the clips, and the file of the predictions.

    Raises:
        AmbiError: If the encoder cannot be used, or the corpus has no audio or too few speakers.
    """
    settings = load_corpus(corpus, metadata)
    selection = select(settings, corpus_clips(settings))
    folds = Folds(selection.votes, selection.clusters)
    identity, load = _egemaps() if encoder == EGEMAPS else _transformers(encoder, device)
    name = f"probe:{Path(encoder).name}"
    folder = StateFolder(
        data_dir() / "encoder_states" / f"{Path(encoder).name}_{str(identity['digest'])[:12]}", identity
    )
    spans = [AudioSpan.from_dict(heard) for heard in selection.heard if heard]
    keys = [audio_digest(span) for span in spans]
    missing = {key: span for key, span in zip(keys, spans, strict=True) if key not in folder}
    if missing:
        extract = load()
        samples = load_ahead(lambda span: load_audio(span, SAMPLE_RATE), list(missing.values()), CLIPS_AHEAD)
        heard = zip(missing, samples, strict=True)
        for key, each in tqdm(heard, f"{encoder}: states", len(missing), unit="clip", disable=None):
            folder.add(key, extract(each))
        folder.flush()
    probes = Probes(folds)
    for place in tqdm(folder.places, "probes", disable=None):
        probes.fit(place, folder.read(place, keys))
    reading = probes.best(folder.places)
    return name, reading, selection, save_supervised(name, reading.p, selection, settings)


def _egemaps() -> tuple[Mapping[str, Any], Callable[[], StatesOf]]:
    """Return the identity of, and a function that loads, the 88 functionals of eGeMAPS v02 by openSMILE.

    The license of openSMILE allows research, but no commercial products.

    Source: Eyben et al. (2016), The Geneva minimalistic acoustic parameter set.
    """
    if find_spec("opensmile") is None:
        raise AmbiError(
            "--encoder egemaps needs openSMILE (free for research, not for commercial products): "
            "pip install 'ambi_eval[opensmile]'"
        )
    import opensmile

    def load() -> StatesOf:
        smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)

        def extract(samples: Samples) -> States:
            return {EGEMAPS: smile.process_signal(samples, SAMPLE_RATE).to_numpy(np.float32)[0]}

        return extract

    return {"digest": f"eGeMAPSv02, opensmile {opensmile.__version__}"}, load


def _transformers(encoder: str, device: str | None) -> tuple[Mapping[str, Any], Callable[[], StatesOf]]:
    """Return the identity of, and a function that loads, an audio encoder (or the encoder of a model like Whisper)."""
    try:
        config = AutoConfig.from_pretrained(encoder)
        extractor = AutoFeatureExtractor.from_pretrained(encoder)
        identity = {"digest": weights_digest(encoder), "processor": processor_digest(encoder)}
    except (OSError, ValueError, TypeError) as error:
        raise AmbiError(
            f"--encoder {encoder} cannot be loaded ({str(error).splitlines()[0]}); give {EGEMAPS}, or a folder or "
            "repository of an audio encoder with its feature extractor"
        ) from error

    def load() -> StatesOf:
        where = torch_device(device)
        try:
            model = AutoModel.from_pretrained(encoder, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise AmbiError(f"--encoder {encoder}: transformers loads no {config.model_type} as an encoder") from error
        model = (model.get_encoder() if config.is_encoder_decoder else model).eval().to(where)
        name = model.main_input_name if model.main_input_name in extractor.model_input_names else None
        name = name or extractor.model_input_names[0]

        @torch.inference_mode()
        def extract(samples: Samples) -> States:
            window = getattr(extractor, "n_samples", None)  # of extractors that pad to a window, such as Whisper's
            if window is not None and len(samples) > window:
                logger.warning(
                    "%s hears %d of %d s of a clip", encoder, window / SAMPLE_RATE, len(samples) / SAMPLE_RATE
                )
                samples = samples[:window]
            features = extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")[name].to(where)
            try:
                hidden = model(features, output_hidden_states=True).hidden_states
            except (RuntimeError, TypeError, ValueError) as error:
                raise AmbiError(
                    f"--encoder {encoder}: the encoder of {config.model_type} takes no audio features; give an audio "
                    "encoder such as microsoft/wavlm-large"
                ) from error
            share = 1.0 if window is None else len(samples) / window
            layers = {f"layer {number}": hidden[number][0] for number in recorded_layers(len(hidden) - 1)}
            return {
                name: pooled(frames[: max(1, round(share * len(frames)))]).cpu().numpy()
                for name, frames in layers.items()
            }

        return extract

    return identity, load
