"""Small audio files for tests that need some, whatever is heard in them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import soundfile


def wav(name: str) -> bytes:
    """Return the bytes of a WAV file of a tenth of a second, another one for each name."""
    file = BytesIO()
    soundfile.write(file, np.random.default_rng(list(name.encode())).uniform(-0.5, 0.5, 1600), 16000, format="WAV")
    return file.getvalue()
