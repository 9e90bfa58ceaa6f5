"""Headless Chromium for the tests of pages."""

import base64
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request


class Browser:
    """Headless Chromium, driven through chromedriver's HTTP interface."""

    def __init__(self, driver):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL)
        self.base = f"http://127.0.0.1:{port}"
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]}
        logs = {"browser": "ALL", "performance": "ALL"}
        wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": logs}}
        deadline = time.monotonic() + 20
        while True:
            try:
                session = self._ask("POST", "/session", {"capabilities": wanted})
                break
            except urllib.error.URLError as error:
                if isinstance(error, urllib.error.HTTPError) or time.monotonic() > deadline:
                    self.process.terminate()
                    raise
                time.sleep(0.05)
        self.base += f"/session/{session['sessionId']}"

    def _ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, path, width):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._ask("POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": size})
        self._ask("POST", "/url", {"url": path.as_uri()})

    def js(self, script):
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def console(self):
        return self._ask("POST", "/se/log", {"type": "browser"})

    def requests(self):
        """Addresses that were asked for since the last call."""
        events = [json.loads(e["message"])["message"] for e in self._ask("POST", "/se/log", {"type": "performance"})]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [event["request"]["url"] for event in sent]

    def screenshot(self):
        return base64.b64decode(self._ask("GET", "/screenshot"))

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

    def close(self):
        self._ask("DELETE", "")
        self.process.terminate()
        self.process.wait()
