"""Headless Chromium for the tests of pages."""

import json

from selenium import webdriver


class Browser:
    """Headless Chromium, with what the tests of pages ask of it."""

    def __init__(self, driver):
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
        self.js = self.chrome.execute_script
        self.screenshot = self.chrome.get_screenshot_as_png
        self.close = self.chrome.quit

    def open(self, path, width, *, dark=False):
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.chrome.get(path.as_uri())

    def console(self):
        return self.chrome.get_log("browser")

    def requests(self):
        """Addresses that were asked for since the last call."""
        events = [json.loads(event["message"])["message"] for event in self.chrome.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [event["request"]["url"] for event in sent]

    def overlapping_texts(self, plots):
        """Pairs of texts that lie on each other in the plots that a CSS selector finds, at most five."""
        return self.js(
            f"""
            const found = [];
            for (const svg of document.querySelectorAll({plots!r})) {{
              const boxes = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]);
              for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {{
                const [[a, p], [b, q]] = [boxes[i], boxes[j]];
                const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
                const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
                if (across > 1 && down > 4) found.push([a, b]);
              }}
            }}
            return found.slice(0, 5);
            """
        )
