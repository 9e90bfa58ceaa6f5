import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ambi_eval.audio import AudioSpan, check_audio_file, load_audio
from ambi_eval.errors import AmbiError

RATE = 16000


def noise(seconds, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.wav", b"", "the audio file is empty"),
        ("text.wav", b"this is not audio", r"cannot be decoded \(.*\); give a readable wav"),
        ("cut.flac", "flac", "breaks off after|cannot be decoded"),
    ],
)
def test_a_damaged_file_is_said(tmp_path, write, name, content, sentence):
    if content == "flac":
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE)
        content = Path(write("whole.flac", noise)).read_bytes()[:60_000]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AmbiError, match=sentence):
        load_audio(AudioSpan(str(tmp_path / name)), RATE)


def change(path, edit):
    """Rewrite a file by an edit of its bytes."""
    Path(path).write_bytes(edit(Path(path).read_bytes()))
    return path


def without_length(content):
    """Zero the number of samples in a FLAC header, as a program does that writes to a pipe."""
    return content[:21] + bytes([content[21] & 0xF0]) + bytes(4) + content[26:]


def without_first_frame(content):
    """Cut the frame off an mp3 that states its length; each frame begins with the same two bytes."""
    return content[content.index(content[:2], 4) :]


def test_a_file_whose_name_is_no_utf_8_is_heard(tmp_path):
    """Its name stands for that of any file with umlauts under LC_ALL=C, too."""
    samples = noise(0.5)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    odd = (tmp_path / "a.wav").rename(tmp_path / os.fsdecode(b"m\xfcde.wav"))
    np.testing.assert_array_equal(load_audio(AudioSpan(str(odd)), RATE), samples.astype(np.float32))
    odd.write_bytes(b"this is not audio")
    with pytest.raises(AmbiError, match="cannot be decoded"):
        load_audio(AudioSpan(str(odd)), RATE)


def test_a_flac_of_unknown_length_is_heard_to_its_end(write):
    samples = noise(3.3)
    whole = load_audio(AudioSpan(write("a.flac", samples)), RATE)
    piped = change(write("b.flac", samples), without_length)
    assert soundfile.info(piped).frames > 1e18
    assert np.array_equal(load_audio(AudioSpan(piped), RATE), whole)
    assert np.array_equal(load_audio(AudioSpan(piped, 1, 2), RATE), whole[RATE : 2 * RATE])
    with pytest.raises(AmbiError, match=r"0.0 to 4 s lies outside the audio of 3.300 s"):
        load_audio(AudioSpan(piped, end=4), RATE)


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_an_mp3_that_does_not_state_its_length_is_heard_to_its_end(write, mode):
    quiet_then_loud = np.concatenate([np.zeros(4 * RATE), noise(4)])  # its size misleads a guess of the length
    path = write("a.mp3", quiet_then_loud, bitrate_mode=mode, compression_level=0.5)
    whole = load_audio(AudioSpan(path), RATE)
    heard = load_audio(AudioSpan(change(path, without_first_frame)), RATE)
    # Without the frame nobody knows how much the encoder put before and behind the samples.
    assert 0 <= len(heard) - len(whole) < 3000
    offset = int(np.correlate(heard, whole[5 * RATE : 6 * RATE], "valid").argmax()) - 5 * RATE
    np.testing.assert_allclose(heard[offset + 5 * RATE :][:RATE], whole[5 * RATE : 6 * RATE], atol=2e-3)


def test_an_ogg_of_several_links_is_heard_to_its_end(write):
    parts = [write(f"{seed}.ogg", noise(1, seed), format="OGG", subtype="OPUS") for seed in (0, 1)]
    chained = Path(parts[0]).with_name("chained.ogg")
    chained.write_bytes(b"".join(Path(part).read_bytes() for part in parts))
    alone = [load_audio(AudioSpan(part), RATE) for part in parts]
    assert np.array_equal(load_audio(AudioSpan(str(chained)), RATE), np.concatenate(alone))
    assert np.array_equal(load_audio(AudioSpan(str(chained), 0.5, 1.5), RATE), np.concatenate(alone)[8000:24000])
    other_rate = Path(write("48.ogg", noise(1), 48000, format="OGG", subtype="OPUS")).read_bytes()
    chained.write_bytes(chained.read_bytes() + other_rate)
    with pytest.raises(AmbiError, match="its parts differ in sample rate or channels"):
        load_audio(AudioSpan(str(chained)), RATE)


FORMATS = {
    "a.wav": {},
    "b.wav": {"subtype": "FLOAT"},
    "c.wav": {"endian": "BIG"},
    "d.wav": {"format": "RF64"},
    "a.aiff": {},
    "a.flac": {},
    "a.mp3": {},
    "a.ogg": {},
    "opus.ogg": {"format": "OGG", "subtype": "OPUS"},
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_a_file_that_was_cut_off_is_refused_in_every_format(write, name, share):
    path = write(name, noise(4), **FORMATS[name])
    assert len(load_audio(AudioSpan(path), RATE)) == 4 * RATE
    change(path, lambda content: content[: round(share * len(content))])
    with pytest.raises(AmbiError, match=r"breaks off .*; copy it anew from the release|cannot be decoded"):
        load_audio(AudioSpan(path), RATE)


def test_a_wav_whose_writer_did_not_know_its_length_is_heard_to_its_end(write):
    path = write("a.wav", noise(1))
    whole = load_audio(AudioSpan(path), RATE)
    change(path, lambda content: content[:40] + b"\xff" * 4 + content[44:])
    assert np.array_equal(load_audio(AudioSpan(path), RATE), whole)


@pytest.mark.parametrize(
    ("rate", "channels", "seconds", "sentence"),
    [
        (1, 1, 3, "its header states 1 Hz; give audio of 4,000 to 192,000 Hz"),
        (3999, 1, 1, "its header states 3,999 Hz"),
        (192_001, 1, 1, "its header states 192,001 Hz"),
        (8000, 9, 1, "its header states 9 channels; give audio of at most 8"),
        (4000, 1, 7201, "its header states 2.0 hours; give audio of at most 2 hours"),
    ],
)
def test_a_header_that_no_clip_of_speech_has_is_refused_before_decoding(write, rate, channels, seconds, sentence):
    path = write("a.wav", np.zeros((rate * seconds, channels), np.int16), rate)
    for use in (lambda: load_audio(AudioSpan(path), RATE), lambda: check_audio_file(Path(path))):
        with pytest.raises(AmbiError, match=sentence):
            use()


@pytest.mark.parametrize(("rate", "channels"), [(4000, 8), (192_000, 1)])
def test_what_is_within_the_limits_is_heard(write, rate, channels):
    path = write("a.wav", np.zeros((rate, channels)), rate)
    check_audio_file(Path(path))
    assert len(load_audio(AudioSpan(path), RATE)) == RATE


def test_a_path_of_windows_says_how_to_write_it(tmp_path):
    with pytest.raises(AmbiError, match=r"there is no such audio file; correct the path, with / between folders"):
        check_audio_file(tmp_path / r"clips\a.wav")
