import hashlib
import threading
import time

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from ambi_eval.audio import AudioSpan, audio_digest, check_files_exist, load_ahead, load_audio, span_seconds, spans
from ambi_eval.errors import AmbiError

RATE = 16000


def tone(seconds, rate=RATE, hertz=220):
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def test_a_float_wav_comes_back_bit_for_bit(write):
    samples = tone(1)
    loaded = load_audio(AudioSpan(write("a.wav", samples, subtype="FLOAT")), RATE)
    assert loaded.dtype == np.float32
    assert np.array_equal(loaded, samples)


@pytest.mark.parametrize(
    ("name", "error"), [("a.wav", 1e-4), ("a.flac", 1e-4), ("a.ogg", 0.05), ("a.mp3", 0.05), ("a.aiff", 1e-4)]
)
def test_every_format_gives_the_same_voice(write, name, error):
    samples = tone(1)
    loaded = load_audio(AudioSpan(write(name, samples)), RATE)
    assert loaded.shape == samples.shape
    assert np.abs(loaded - samples)[800:-800].max() < error  # lossy formats are off where a tone sets in


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_mixed_by_their_mean(write, channels):
    samples = np.random.default_rng(0).uniform(-1, 1, (RATE, channels)).astype(np.float32)
    loaded = load_audio(AudioSpan(write("a.wav", samples, subtype="FLOAT")), RATE)
    np.testing.assert_allclose(loaded, samples.mean(axis=1), atol=1e-7)


def test_the_length_of_a_span_is_that_of_its_samples(write):
    path = write("a.wav", tone(1))
    for span, seconds in [((), 1), ((0.2, 0.3), 0.1), ((0.75,), 0.25), ((0.1, 0.8), 0.7)]:
        assert span_seconds(AudioSpan(path, *span)) == seconds


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_is_that_of_soxr_and_keeps_the_pitch(write, rate):
    samples = tone(1, rate)
    loaded = load_audio(AudioSpan(write("a.wav", samples, rate, subtype="FLOAT")), RATE)
    assert np.array_equal(loaded, soxr.resample(samples, rate, RATE, quality="HQ"))
    assert abs(len(loaded) - RATE) <= 1
    assert np.abs(np.fft.rfft(loaded[:RATE])).argmax() == 220


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        (None, None, 0, 32000),
        (0.5, None, 8000, 32000),
        (None, 1.25, 0, 20000),
        (0.5, 1.25, 8000, 20000),
        (0, 2, 0, 32000),
        (0, 2.005, 0, 32000),  # a rounded time stamp
    ],
)
@pytest.mark.parametrize("name", ["a.wav", "a.mp3"])
def test_a_span_is_that_part_of_the_file(write, name, start, end, first, last):
    path = write(name, np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE))
    whole = load_audio(AudioSpan(path), RATE)
    assert np.array_equal(load_audio(AudioSpan(path, start, end), RATE), whole[first:last])


def test_a_span_is_cut_before_it_is_resampled_so_that_nothing_beside_it_is_heard(write):
    loud_silent_loud = np.concatenate([tone(0.5, 44100), np.zeros(22050, np.float32), tone(0.5, 44100)])
    path = write("a.wav", loud_silent_loud, 44100)
    assert not load_audio(AudioSpan(path, 0.5, 1.0), RATE).any()


def test_a_clip_under_a_tenth_of_a_second_is_padded_to_it(write):
    samples = tone(0.03)
    loaded = load_audio(AudioSpan(write("a.wav", samples, subtype="FLOAT")), RATE)
    assert len(loaded) == 1600
    assert np.array_equal(loaded[:480], samples)
    assert not loaded[480:].any()


def test_silence_is_zeros_as_long_as_the_span(write):
    span = AudioSpan(write("a.wav", tone(2)), 0.5, 1.25, "silence")
    assert np.array_equal(load_audio(span, RATE), np.zeros(12000, np.float32))


def test_noise_is_white_as_loud_and_long_as_the_span_and_always_the_same(write):
    voice = AudioSpan(write("a.wav", tone(4)), 1, 4)
    noise = AudioSpan(voice.path, 1, 4, "noise")
    samples, heard = load_audio(noise, RATE), load_audio(voice, RATE)
    assert samples.dtype == np.float32
    assert samples.shape == heard.shape
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(np.sqrt(np.mean(heard**2)), rel=1e-5)
    power = np.abs(np.fft.rfft(samples)) ** 2
    assert power[: len(power) // 2].sum() == pytest.approx(power[len(power) // 2 :].sum(), rel=0.1)
    assert np.array_equal(samples, load_audio(noise, RATE))
    other = load_audio(AudioSpan(voice.path, 0, 3, "noise"), RATE)
    assert abs(np.corrcoef(samples, other)[0, 1]) < 0.05


def test_the_fixed_silence_is_the_same_for_every_clip_without_its_file(write):
    spans = [
        AudioSpan(write("a.wav", tone(2)), 0.5, control="silence_fixed"),
        AudioSpan("gone", None, None, "silence_fixed"),
    ]
    for span in spans:
        assert np.array_equal(load_audio(span, RATE), np.zeros(5 * RATE, np.float32))
    assert len({audio_digest(span) for span in spans}) == 1
    assert audio_digest(spans[0]) != audio_digest(AudioSpan(spans[0].path, 0.5, control="silence"))


def test_the_digest_is_of_what_is_heard_not_of_where_it_lies(write):
    spans = [
        AudioSpan(write("a.wav", tone(2))),
        AudioSpan(write("b.wav", tone(2, hertz=221))),
        AudioSpan(write("a.wav", tone(2)), 0.5),
        AudioSpan(write("a.wav", tone(2)), None, 0.5),
        AudioSpan(write("a.wav", tone(2)), control="noise"),
        AudioSpan(write("a.wav", tone(2)), control="silence"),
    ]
    digests = [audio_digest(span) for span in spans]
    assert len(set(digests)) == len(spans)
    assert all(len(bytes.fromhex(digest)) == hashlib.sha256().digest_size for digest in digests)
    assert audio_digest(AudioSpan(write("copy.wav", tone(2)))) == digests[0]
    assert audio_digest(AudioSpan(spans[0].path, 1)) == audio_digest(AudioSpan(spans[0].path, 1.0))


def test_the_digest_sees_that_a_file_was_replaced(write):
    before = audio_digest(AudioSpan(write("a.wav", tone(1))))
    assert audio_digest(AudioSpan(write("a.wav", tone(1.5)))) != before


@pytest.mark.parametrize(
    ("doc", "sentence"),
    [
        ({"path": "a.wav", "strat": 1}, "an audio has no 'strat', did you mean 'start'"),
        ({"start": 1.0}, "an audio without a path"),
        ({"path": "a.wav", "control": "silent"}, "'silent' is no control, did you mean 'silence'"),
        ({"path": "a.wav", "start": 2.0, "end": 1.0}, "2.0 to 1.0 s is no span"),
        ({"path": "a.wav", "start": -1.0}, "-1.0 to None s is no span"),
    ],
)
def test_an_impossible_span_is_refused(doc, sentence):
    with pytest.raises(AmbiError, match=sentence):
        AudioSpan.from_dict(doc)


def test_a_document_of_the_harness_becomes_a_span():
    assert AudioSpan.from_dict({"path": "a.wav", "start": None, "end": 2.0, "control": None}) == AudioSpan(
        "a.wav", end=2
    )


def test_a_missing_file_is_said(tmp_path):
    for use in (audio_digest, lambda span: load_audio(span, RATE)):
        with pytest.raises(AmbiError, match=r"gone\.wav: there is no such audio file"):
            use(AudioSpan(str(tmp_path / "gone.wav")))


@pytest.mark.parametrize(
    ("samples", "span", "sentence"),
    [
        (np.zeros(0), {}, "holds no samples"),
        (np.array([0.1, np.nan, 0.1]), {}, "values that are not finite"),
        (np.array([0.1, np.inf, 0.1]), {}, "values that are not finite"),
        (np.zeros(RATE), {"start": 1.0}, r"1.0 to its end s lies outside the audio of 1.000 s"),
        (np.zeros(RATE), {"end": 1.5}, r"0.0 to 1.5 s lies outside the audio of 1.000 s"),
    ],
)
def test_what_cannot_be_heard_is_said(write, samples, span, sentence):
    path = write("a.wav", samples, subtype="FLOAT")
    with pytest.raises(AmbiError, match=sentence):
        load_audio(AudioSpan(path, **span), RATE)


def noise(seconds, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE))


def test_floats_on_the_scale_of_integers_are_refused(write):
    path = write("a.wav", noise(1) * 32768, subtype="FLOAT")
    with pytest.raises(AmbiError, match=r"its samples are floats up to 16,3\d\d, as of integers; divide them"):
        load_audio(AudioSpan(path), RATE)


def test_samples_beyond_full_scale_are_clipped_counted_and_said_once(write, monkeypatch, caplog):
    monkeypatch.setattr(spans, "clipped", {})
    samples = tone(1) * 5
    path = write("a.wav", samples, subtype="FLOAT")
    for _ in range(2):
        assert np.array_equal(load_audio(AudioSpan(path), RATE), samples.clip(-1, 1))
    beyond = int((np.abs(samples) > 1).sum())
    assert spans.clipped == {path: beyond}
    load_audio(AudioSpan(write("b.wav", tone(1), subtype="FLOAT")), RATE)
    assert len(spans.clipped) == 1
    load_audio(AudioSpan(write("c.wav", samples, subtype="FLOAT")), RATE)
    assert len(spans.clipped) == 2
    assert [record.message for record in caplog.records] == [
        f"{path}: {beyond} of 16000 samples lie beyond -1..1 and are clipped, as in all other such files"
    ]


def test_missing_files_are_counted_and_the_first_is_named(write, tmp_path):
    there = AudioSpan(write("a.wav", tone(1)))
    check_files_exist([there, there])
    gone = [AudioSpan(str(tmp_path / name)) for name in ("x.wav", "y.wav", "x.wav")]
    with pytest.raises(
        AmbiError, match=r"x\.wav: there is no such audio file \(and 1 more\); correct the paths in the manifest$"
    ):
        check_files_exist([there, *gone])


@given(st.lists(st.integers()), st.integers(0, 5))
def test_loading_ahead_keeps_the_order(items, ahead):
    assert list(load_ahead(lambda item: item * 2, items, ahead)) == [item * 2 for item in items]


def test_loading_ahead_uses_threads_and_stays_within_its_bound():
    begun = []

    def load(item):
        begun.append(item)
        assert threading.current_thread() is not threading.main_thread()
        return item

    loaded = load_ahead(load, range(100), 5)
    assert next(loaded) == 0
    time.sleep(0.05)
    assert len(begun) <= 6


def test_an_error_while_loading_ahead_comes_in_its_turn():
    def load(item):
        if item == 3:
            raise AmbiError("item 3 is broken")
        return item

    loaded = load_ahead(load, range(10), 4)
    assert [next(loaded) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(AmbiError, match="item 3"):
        next(loaded)
