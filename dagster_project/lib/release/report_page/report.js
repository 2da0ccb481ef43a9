// The slider: two thresholds on the grid k / 1000, and every number that follows from them.
// The formulas are those of slider.py: one division of counts, rounded half up for the eye only.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("counts").textContent);
  const byId = (id) => document.getElementById(id);
  const inputs = { confident: byId("confident"), refer: byId("refer") };
  const rate = (part, whole) => (whole ? part / whole : null);

  // Counts at both thresholds to shares; null is undefined, never 0.
  function numbers(confident, refer) {
    const [N, n, kept] = [data.n[0], data.n[confident], data.n[refer]];
    return {
      confident: rate(n, N),
      possible: rate(kept - n, N),
      refer: rate(N - kept, N),
      wrong: rate(n - data.top1[confident], N),
      covered_top1: rate(data.top1[confident], n),
      kept_top3: rate(data.top3[refer], kept),
    };
  }

  const threshold = (step) => (step / data.grid).toFixed(3);
  const percent = (value) => (value === null ? "undefined" : (100 * value).toFixed(1) + " %");
  const perThousand = (value) => (value === null ? "undefined" : (1000 * value).toFixed(1));

  // Certified means: this very threshold was among those tested and passed. No other bound moves.
  function isCertified(step) {
    const t = step / data.grid;
    return data.certified !== null && data.certified[0] <= t && t <= data.certified[1];
  }

  // Widths in per cent, and a tier's name where it has room; sizes as in drawing.py.
  function drawBar(shown) {
    let left = 0;
    const place = (tier, x, width) => {
      const rect = byId("bar-" + tier);
      rect.setAttribute("x", (100 * x).toFixed(3) + "%");
      rect.setAttribute("width", (100 * width).toFixed(3) + "%");
    };
    for (const tier of ["confident", "possible", "refer"]) {
      const width = shown[tier] - (tier === "confident" ? shown.wrong : 0);
      const words = byId("in-" + tier);
      words.setAttribute("x", (100 * (left + width / 2)).toFixed(3) + "%");
      words.setAttribute("display", width < data.bar_room ? "none" : "inline");
      place(tier, left, shown[tier]);
      left += shown[tier];
    }
    place("wrong", shown.confident - shown.wrong, shown.wrong);
  }

  // The point of a threshold on the curve; none where nothing is answered.
  function moveMarker(side, step) {
    const marker = byId("marker-" + side);
    const n = data.n[step];
    if (!n) return marker.setAttribute("display", "none");
    const { left, top, width, height, y_max: most } = data.plot;
    const risk = Math.min((n - data.top1[step]) / n, most);
    const x = left + (width * n) / data.n[0];
    const y = top + height * (1 - risk / most);
    marker.setAttribute("transform", `translate(${x} ${y})`);
    marker.removeAttribute("display");
  }

  let timer = 0;
  function say(text) {
    byId("said").textContent = text; // seen at once, spoken when the thumb rests
    clearTimeout(timer);
    timer = setTimeout(() => { byId("spoken").textContent = text; }, 400);
  }

  function show(note) {
    const [confident, refer] = [Number(inputs.confident.value), Number(inputs.refer.value)];
    const shown = numbers(confident, refer);
    for (const [name, value] of Object.entries(shown)) {
      for (const place of document.querySelectorAll(`data[data-number=${name}]`)) {
        place.value = value === null ? "" : String(value);
        place.textContent = name === "wrong" ? perThousand(value) : percent(value);
      }
    }
    for (const [side, input] of Object.entries(inputs)) {
      const text = threshold(Number(input.value));
      input.setAttribute("aria-valuetext", text);
      byId(side + "-value").textContent = text;
      moveMarker(side, Number(input.value));
    }
    drawBar(shown);
    const sure = isCertified(confident);
    const verdict = byId("verdict");
    verdict.textContent = sure ? "certified" : "not certified for the declared target";
    verdict.classList.toggle("yes", sure);
    for (const pin of document.querySelectorAll("button[data-step]")) {
      pin.setAttribute("aria-pressed", String(inputs[pin.dataset.side].value === pin.dataset.step));
    }
    say(
      `Confident from ${threshold(confident)}, refer below ${threshold(refer)}: ` +
      `${percent(shown.confident)} answered confidently, ${perThousand(shown.wrong)} of 1,000 ` +
      `images confident and wrong, ${percent(shown.refer)} referred; ${verdict.textContent}.` + note
    );
  }

  // Refer cannot lie above confident: the one that was not touched gives way, and the page says so.
  function move(side, step) {
    const other = side === "confident" ? "refer" : "confident";
    inputs[side].value = String(step);
    const [confident, refer] = [Number(inputs.confident.value), Number(inputs.refer.value)];
    const pushed = refer > confident;
    if (pushed) inputs[other].value = inputs[side].value;
    show(pushed ? ` The ${other} threshold moved along: refer cannot lie above confident.` : "");
  }

  for (const [side, input] of Object.entries(inputs)) {
    input.addEventListener("input", () => move(side, Number(input.value)));
  }
  document.addEventListener("click", (event) => {
    const target = event.target.closest("[data-step]");
    if (target) move(target.dataset.side, Number(target.dataset.step));
    const nudge = event.target.closest("[data-nudge]");
    if (nudge) {
      const { side, nudge: by } = nudge.dataset;
      move(side, Number(inputs[side].value) + Number(by));
    }
    if (event.target.closest("#reset")) {
      for (const side of ["confident", "refer"]) inputs[side].value = String(data.released[side]);
      show("");
    }
  });
  inputs.confident.value = String(data.released.confident);
  inputs.refer.value = String(data.released.refer);
  show("");
})();
