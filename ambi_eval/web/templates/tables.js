// Sorting and filtering; without it the page shows everything in its first order.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("thead th").forEach((head, column) => {
    if (head.dataset.plain !== undefined) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === "" || y === "") return (x === "") - (y === "");  // nothing to compare goes last, both ways
        // by the numbers that they begin with (-0.2 ± 0.1); where these are equal, or one has none, by all of the text
        const order = parseFloat(x) - parseFloat(y) || x.localeCompare(y, undefined, { numeric: true });
        return falling ? -order : order;
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}
for (const form of document.querySelectorAll(".filters")) {
  const rows = [...document.getElementById(form.dataset.table).tBodies[0].rows];
  const apply = () => {
    const { text, ...chosen } = Object.fromEntries(new FormData(form));
    for (const row of rows) {
      row.hidden = !row.textContent.toLowerCase().includes(text.toLowerCase())
        || Object.entries(chosen).some(([name, value]) => value && !row.dataset[name].split("/").includes(value));
    }
    form.querySelector("output").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
}
