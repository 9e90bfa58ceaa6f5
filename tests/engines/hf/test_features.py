from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch
from transformers import SeamlessM4TFeatureExtractor, WhisperFeatureExtractor

from ambi_eval.engines.hf.features import remember_features

EXTRACTORS = {
    "whisper": lambda: WhisperFeatureExtractor(feature_size=8, chunk_length=2),
    "seamless": lambda: SeamlessM4TFeatureExtractor(feature_size=8, num_mel_bins=8),
}


def noise(seed, seconds=0.5):
    return np.random.default_rng(seed).standard_normal(int(16_000 * seconds)).astype(np.float32)


@pytest.fixture(params=EXTRACTORS)
def extractor(request):
    """An extractor that counts what it makes in `made`, told to remember two results."""
    extractor = EXTRACTORS[request.param]()

    class Counting(type(extractor)):
        made = 0

        def __call__(self, *args, **kwargs):
            Counting.made += 1
            return super().__call__(*args, **kwargs)

    extractor.__class__ = Counting
    remember_features(extractor, most=2)
    return extractor


@pytest.fixture
def fresh(request, extractor):
    """An extractor of the same kind that remembers nothing."""
    return EXTRACTORS[request.node.callspec.params["extractor"]]()


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_features_are_those_of_the_extractor_and_are_made_once(extractor, fresh):
    for audio in (noise(0), [noise(0)], [noise(0), noise(1)], torch.from_numpy(noise(0))):
        before = extractor.made
        made = [extractor(audio, sampling_rate=16_000, return_tensors="np") for _ in range(3)]
        assert extractor.made == before + 1
        for each in made:
            assert_same(each, fresh(audio, sampling_rate=16_000, return_tensors="np"))


@pytest.mark.parametrize(
    ("audio", "options"),
    [(noise(1), {}), (noise(0)[:-1], {}), (noise(0), {"return_attention_mask": False}), ([noise(0), noise(0)], {})],
    ids=["another audio", "another length", "another option", "another number"],
)
def test_what_is_asked_otherwise_is_made_anew(extractor, fresh, audio, options):
    extractor(noise(0), sampling_rate=16_000, return_tensors="np")
    made = extractor(audio, sampling_rate=16_000, return_tensors="np", **options)
    assert extractor.made == 2
    assert_same(made, fresh(audio, sampling_rate=16_000, return_tensors="np", **options))


def test_what_a_processor_does_to_features_is_not_remembered(extractor, fresh):
    first = extractor(noise(0), sampling_rate=16_000, return_tensors="np")
    first["audio_features"] = first.pop("input_features")
    assert_same(
        extractor(noise(0), sampling_rate=16_000, return_tensors="np"),
        fresh(noise(0), sampling_rate=16_000, return_tensors="np"),
    )


def test_it_forgets_the_oldest(extractor):
    for seed in (0, 1, 2):
        extractor(noise(seed), sampling_rate=16_000)
    extractor(noise(2), sampling_rate=16_000)
    assert extractor.made == 3
    extractor(noise(0), sampling_rate=16_000)
    assert extractor.made == 4


def test_threads_that_ask_at_once_wait_for_one_of_them(extractor):
    start = Barrier(4)

    def ask(_):
        start.wait()
        return extractor(noise(0, 5.0), sampling_rate=16_000, return_tensors="np")

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(ask, range(4)))
    assert extractor.made == 1
    for each in made[1:]:
        assert_same(each, made[0])


def test_an_error_is_told_to_all_who_ask(extractor):
    for _ in range(2):
        with pytest.raises(ValueError, match=r"(?i)sampling.rate"):
            extractor(noise(0), sampling_rate=8_000)


def test_it_stays_what_it_is(extractor, fresh, tmp_path):
    assert isinstance(extractor, type(fresh))
    extractor.save_pretrained(tmp_path)
    assert type(fresh).from_pretrained(tmp_path).to_dict() == fresh.to_dict()


@pytest.mark.parametrize("seconds", [0.1, 3.0, 4.995, 29.9, 31.0])
def test_features_without_padding_are_those_with_it(seconds):
    """Of a window of 30 s; the processor of Qwen2.5-Omni, whose window is 300 s, asks for `max_length` in this way."""
    samples = 0.1 * np.random.default_rng(0).standard_normal(int(16_000 * seconds), dtype=np.float32)
    found = []
    for pad_to_window in (True, False):
        extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=30, return_attention_mask=True)
        remember_features(extractor, pad_to_window=pad_to_window)
        features = extractor(
            [samples], sampling_rate=16_000, padding="max_length", return_attention_mask=True, return_tensors="pt"
        )
        mask = features["attention_mask"].bool()[0]
        assert features["input_features"].shape[2] == len(mask)
        found.append((len(mask), features["input_features"][0][:, mask]))
    (padded, expected), (frames, given) = found
    torch.testing.assert_close(given, expected, atol=1e-6, rtol=0)
    assert padded == 3000
    assert expected.shape[1] <= frames <= min(3000, expected.shape[1] + 4)
