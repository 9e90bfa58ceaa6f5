"""axe-core in the browser of the tests."""

import sys
from pathlib import Path

import pytest

AXE = Path(sys.prefix) / "axe" / "node_modules" / "axe-core" / "axe.min.js"


def serious_violations(browser):
    """What axe-core finds wrong with the open page, everything unfolded: rule, impact and the first element."""
    if not AXE.is_file():
        pytest.skip(f"axe-core is not here (npm install --prefix {AXE.parents[2]} axe-core)")
    browser.js("document.querySelectorAll('details').forEach(details => { details.open = true; });")
    return browser.js(
        AXE.read_text(encoding="utf-8") + "; return axe.run(document, {resultTypes: ['violations'], preload: false})"
        ".then(found => found.violations.filter(v => ['serious', 'critical'].includes(v.impact))"
        ".map(v => [v.id, v.impact, v.nodes[0].html.slice(0, 200)]));"
    )


def small_texts(browser):
    """Texts that are shown smaller than 11 pixels, those of plots as they are scaled."""
    return browser.js(
        """
        const found = new Set();
        for (const element of document.querySelectorAll("body *")) {
          if (![...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
          const svg = element.ownerSVGElement, box = (svg ?? element).getBoundingClientRect();
          if (!box.width) continue;
          const scale = svg ? box.width / svg.viewBox.baseVal.width : 1;
          const size = parseFloat(getComputedStyle(element).fontSize) * scale;
          if (size < 10.99) found.add(`${size}px: ${element.textContent.slice(0, 40)}`);
        }
        return [...found].slice(0, 5);
        """
    )
