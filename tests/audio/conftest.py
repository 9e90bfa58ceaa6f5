import pytest
import soundfile


@pytest.fixture
def write(tmp_path):
    """Write samples to a file of a format and give its path."""

    def to(name, samples, rate=16000, **options):
        soundfile.write(tmp_path / name, samples, rate, **options)
        return str(tmp_path / name)

    return to
