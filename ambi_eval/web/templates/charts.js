// Makes a plot live (zoom, tooltips, legends to click) when somebody points at it; without it the plot is a picture.
"use strict";
(() => {
  const packed = document.getElementById("vega"), file = document.currentScript.dataset.vega;
  let loading = null;
  const fetched = (script) => new Promise((done, failed) => {
    Object.assign(script, { src: file, onload: done, onerror: failed });
    document.head.append(script);
  });
  const load = () => loading ??= (async () => {
    const script = document.createElement("script");
    if (file) return fetched(script);
    const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  })();
  const legends = (spec) => {
    const named = spec.layer?.findLast((layer) => layer.encoding?.color?.field === "series");
    if (!named || !named.encoding.color.legend) return spec;
    named.params = [{ name: "chosen", select: { type: "point", fields: ["series"] }, bind: "legend" }];
    named.encoding.opacity = { condition: { param: "chosen", value: 1 }, value: 0.15 };
    return spec;
  };
  const zoom = (spec) => {
    const first = spec.layer?.find((layer) => layer.mark?.type === "point" && !layer.data);
    if (first && first.encoding?.x?.type === "quantitative" && first.encoding?.y?.type === "quantitative")
      first.params = [...(first.params ?? []), { name: "zoom", select: "interval", bind: "scales" }];
    return spec;
  };
  for (const figure of document.querySelectorAll("figure")) {
    const source = figure.querySelector("script[type='application/json']"), place = figure.querySelector(".plot.wide");
    if (!source || !(file || (packed && "DecompressionStream" in window))) continue;
    place.addEventListener("pointerenter", async () => {
      const text = place.querySelector("svg").getAttribute("aria-label");
      await load();
      const live = document.createElement("div");
      const options = { renderer: "svg", actions: false, ast: true, defaultStyle: false, tooltip: { disableDefaultStyle: true } };
      await window.vegaEmbed(live, zoom(legends(JSON.parse(source.textContent))), options);
      const svg = live.querySelector("svg");
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", text);
      place.replaceChildren(live);
      figure.classList.add("live");
    }, { once: true });
  }
})();
