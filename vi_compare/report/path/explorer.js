"use strict";
(async () => {
  const root = document.querySelector(".explorer"), one = (s) => root.querySelector(s), each = (s, f) => root.querySelectorAll(s).forEach(f);
  const bytes = Uint8Array.from(atob(document.getElementById("path-data").textContent), (c) => c.charCodeAt(0));
  const data = await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
  const slider = one("#path-alpha"), choice = one("#path-branch"), stages = [...root.querySelectorAll(".moving svg")];
  const index = (b, at) => b ? b.at.indexOf(at) : -1;

  // A curve is stored as changes from one grid point to the next.
  const outline = (steps, stage) => {
    let level = 0;
    return "M" + steps.map((d, i) => stage.x[i] + " " + (stage.floor - (level += d) * stage.step).toFixed(1)).join("L");
  };
  const add = (group, d) => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", d); group.append(path);
  };
  const draw = (shown, at) => stages.forEach((svg, m) => {
    const others = svg.querySelector(".others"), curve = (b) => outline(b.curves[index(b, at)][m], data.stages[m]);
    others.replaceChildren();
    data.branches.forEach((b) => { if (b !== shown && index(b, at) >= 0) add(others, curve(b)); });
    svg.querySelector(".now").setAttribute("d", index(shown, at) < 0 ? "" : curve(shown));
  });
  const point = (at, spot) => {
    const [low, high] = data.range, share = high > low ? (data.alphas[at] - low) / (high - low) : 0;
    each(".cursor", (line) => {
      const x = Number(line.dataset.from) + share * (line.dataset.to - line.dataset.from);
      line.setAttribute("x1", x); line.setAttribute("x2", x);
    });
    each(".ring", (ring) => {
      if (spot) { ring.setAttribute("cx", spot[0]); ring.setAttribute("cy", spot[1]); } else ring.removeAttribute("cx");
    });
  };
  const sentence = (b, at, i) => {
    if (!b) return "no optimum was found here.";
    if (i < 0) return "branch " + b.name + " does not exist here; it goes from " + b.range + ".";
    const lowest = data.branches[data.best[at]];
    const others = data.branches.filter((o) => o !== b && index(o, at) >= 0).map((o) => o.name);
    return "branch " + b.name + (lowest === b ? ", the lowest," : ",") + " " + (b.holds[i] || "is shown") +
      (lowest && lowest !== b ? "; " + lowest.name + " is lower" : "") +
      (others.length ? ". Beside it: " + others.join(", ") : "") + ".";
  };
  const show = () => {
    const at = Number(slider.value), picked = Number(choice.value);
    const b = data.branches[picked < 0 ? data.best[at] : picked], i = index(b, at);
    draw(b, at);
    point(at, i < 0 ? null : b.place[i]);
    slider.setAttribute("aria-valuetext", "α = " + data.said[at]);
    one("#path-says").textContent = "α = " + data.said[at] + ": " + sentence(b, at, i);
    each("#path-numbers dd", (cell, k) => { cell.textContent = i < 0 ? "–" : b.readings[i][k]; });
  };

  slider.max = data.alphas.length - 1;
  slider.value = data.alphas.reduce((near, a, k) => Math.abs(a) < Math.abs(data.alphas[near]) ? k : near, 0);
  slider.oninput = choice.onchange = show;
  each("[data-stop]", (button) => button.onclick = () => { slider.value = button.dataset.stop; show(); });
  if (stages.length) {
    each(".moving", (figure) => { figure.hidden = false; });
    each(".still", (figure) => { figure.hidden = true; });
  }
  root.classList.add("ready");
  show();
})();
