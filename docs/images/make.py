"""Draw the pictures of the README: `python docs/images/make.py runs/demo/report.html` (needs Chromium)."""

import shutil
import subprocess
import sys
from pathlib import Path

WIDTH, HEIGHT = 1200, 860
# Chromium's numbers for the color schemes that a page may ask for.
SCHEMES = {"light": 1, "dark": 0}
MOST_BYTES = 200_000


def main() -> None:
    """Write `report-light.png` and `report-dark.png` beside this file."""
    page = Path(sys.argv[1]).resolve()
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None or not page.is_file():
        sys.exit(f"no Chromium here (Debian: apt-get install chromium), or no page at {page}: run `make demo` first")
    for scheme, number in SCHEMES.items():
        picture = Path(__file__).with_name(f"report-{scheme}.png")
        subprocess.run(
            [
                *(browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *(f"--window-size={WIDTH},{HEIGHT}", f"--blink-settings=preferredColorScheme={number}"),
                *(f"--screenshot={picture}", page.as_uri()),
            ],
            check=True,
            capture_output=True,
        )
        if picture.stat().st_size > MOST_BYTES:
            sys.exit(f"{picture} has {picture.stat().st_size} bytes, more than {MOST_BYTES}: make it smaller")


if __name__ == "__main__":
    main()
