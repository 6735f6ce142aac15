"use strict";
(() => {
  const root = document.documentElement, all = (s, f) => document.querySelectorAll(s).forEach(f);

  // Where there is no storage the theme lasts as long as the page.
  const keep = (v) => { try { localStorage.setItem("vi-compare-theme", v); } catch (_) { } };
  const theme = (v) => v ? root.dataset.theme = v : delete root.dataset.theme;
  try { const kept = localStorage.getItem("vi-compare-theme"); if (kept) theme(kept); } catch (_) { }
  document.getElementById("theme").onclick = () => {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    const next = root.dataset.theme ? "" : dark ? "light" : "dark";
    theme(next); keep(next);
  };

  all("[data-fit]", (chip) => {
    const css = chip.dataset.fit, only = (on) => root.classList.toggle("only-" + css, on);
    chip.onpointerenter = (e) => { if (e.pointerType === "mouse" && chip.ariaPressed === "true") only(true); };
    chip.onpointerleave = () => only(false);
    chip.onclick = () => {
      only(false);
      chip.setAttribute("aria-pressed", String(!root.classList.toggle("hide-" + css)));
    };
  });

  const raw = (cell) => cell.dataset.v ?? cell.textContent.trim();
  all(".sort", (button) => button.onclick = () => {
    const head = button.parentNode, body = head.closest("table").tBodies[0], i = head.cellIndex;
    const sign = head.ariaSort === "ascending" ? -1 : 1;
    const compare = (a, b) => {
      const [x, y] = [raw(a.cells[i]), raw(b.cells[i])];
      if (x === "" || y === "") return (x === "") - (y === "");  // missing last
      const d = Number(x) - Number(y);
      return sign * (Number.isNaN(d) ? x.localeCompare(y) : d);
    };
    body.append(...[...body.rows].sort(compare));
    for (const h of head.parentNode.cells) h.ariaSort = null;
    head.ariaSort = sign > 0 ? "ascending" : "descending";
  });

  const download = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name; link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  // A leading = + @ would be a formula to a spreadsheet.
  const quote = (s) => '"' + (/^[=+@\t]/.test(s) && isNaN(s) ? "'" : "") + s.replace(/"/g, '""') + '"';
  all("[data-csv]", (button) => button.onclick = () => {
    const name = button.dataset.csv, rows = [...document.getElementById("table-" + name).rows];
    const text = (c) => c.closest("thead") ? c.innerText.replace(/\s+/g, " ").trim() : raw(c);
    // Standard errors get columns of their own.
    const wide = (i) => rows.some((r) => r.cells[i].dataset.e);
    const cells = (r, k) => [...r.cells].flatMap((c, i) =>
      wide(i) ? [text(c), k ? c.dataset.e || "" : "±"] : [text(c)]);
    download(name + ".csv", "text/csv", rows.map((r, k) => cells(r, k).map(quote).join(",")).join("\r\n"));
  });
  document.getElementById("json").onclick = () => {
    const bytes = Uint8Array.from(atob(document.getElementById("results").textContent), (c) => c.charCodeAt(0));
    new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text()
      .then((text) => download("results.json", "application/json", text));
  };
  document.getElementById("print").onclick = () => print();
  all("[data-copy]", (b) => b.onclick = () =>
    navigator.clipboard?.writeText(b.previousElementSibling.textContent).then(() => { b.textContent = "Copied"; }));

  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => entries.forEach((e) => {
    if (e.isIntersecting) links.forEach((a, id) => a.classList.toggle("here", id === e.target.id));
  }), { rootMargin: "-20% 0px -70% 0px" });
  all("main > section", (s) => seen.observe(s));
  if (innerWidth < 896) document.querySelector("nav details").open = false;
})();
