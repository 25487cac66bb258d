"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const wide = matchMedia("(prefers-color-scheme: dark)");
  let printing = false;
  const isDark = () => !printing && (root.dataset.theme ? root.dataset.theme === "dark" : wide.matches);

  // Figures: made light; dark is the same figure with each colour of the palette replaced by its partner.
  const store = document.getElementById("palette");
  const partner = store ? JSON.parse(store.textContent) : {};
  const dressed = (value) => {
    if (typeof value === "string") {
      if (partner[value]) return partner[value];
      return value.includes("color:") ? Object.entries(partner).reduce((s, [a, b]) => s.split("color:" + a).join("color:" + b), value) : value;
    }
    if (Array.isArray(value)) return value.map(dressed);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, dressed(v)]));
    return value;
  };
  const figures = all(".figure").map((box) => {
    const spec = box.querySelector(".spec");
    return { box, place: box.querySelector(".plot"), choice: box.querySelector(".variants"), variants: spec ? JSON.parse(spec.textContent) : [] };
  }).filter((f) => f.variants.length);
  const draw = (figure) => {
    const chosen = figure.variants[figure.choice ? Number(figure.choice.value) : 0];
    const spec = isDark() ? dressed(chosen) : structuredClone(chosen);
    const width = printing ? Math.min(figure.place.clientWidth || 660, 660) : undefined;
    return Plotly.react(figure.place, spec.data, { ...spec.layout, width, autosize: !width },
      { displayModeBar: false, responsive: false, doubleClick: false, scrollZoom: false });
  };
  const redraw = () => { if (window.Plotly) figures.forEach(draw); };

  const inflate = async (text) => {
    const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(plain).text();
  };
  const start = async () => {
    if (!figures.length) return;
    try {
      const element = document.createElement("script");
      element.textContent = await inflate(document.getElementById("plotly").textContent);
      document.head.append(element);
      await Promise.all(figures.map(draw));
    } catch (reason) {
      // A browser from before 2023 cannot unpack the library: the numbers under each figure are shown instead.
      root.classList.add("no-figures");
      all("details.numbers").forEach((d) => { d.open = true; });
      console.warn("whence: figures could not be drawn", reason);
    }
    root.dataset.ready = "yes";
  };
  // A figure follows the width of its box, also where no window event tells of a change (a panel, an iframe).
  const widths = new WeakMap();
  const sized = new ResizeObserver((entries) => entries.forEach(({ target, contentRect }) => {
    const before = widths.get(target);
    widths.set(target, contentRect.width);
    if (!printing && before !== undefined && before !== contentRect.width && target.data) Plotly.Plots.resize(target);
  }));
  figures.forEach((f) => sized.observe(f.place));
  figures.forEach((f) => f.choice && f.choice.addEventListener("change", () => draw(f)));

  // Light and dark
  const toggle = document.querySelector(".theme");
  toggle.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("whence-theme", root.dataset.theme); } catch (e) { /* a private window keeps nothing */ }
    redraw();
  });
  wide.addEventListener("change", redraw);

  // Paper is light, whatever the screen is
  let kept;
  addEventListener("beforeprint", () => { kept = root.dataset.theme; root.dataset.theme = "light"; printing = true; redraw(); });
  addEventListener("afterprint", () => { printing = false; if (kept) root.dataset.theme = kept; else delete root.dataset.theme; redraw(); });

  // Gallery: one class at a time
  all(".chips").forEach((group) => group.addEventListener("click", (event) => {
    const pressed = event.target.closest("button");
    if (!pressed) return;
    all("button", group).forEach((b) => b.setAttribute("aria-pressed", String(b === pressed)));
    const wanted = pressed.dataset.class;
    all(".card", group.parentElement).forEach((card) => { card.hidden = wanted !== "" && card.dataset.class !== wanted; });
  }));

  // Pairs: what the reader says of each, as a file
  all(".pairs").forEach((box) => {
    const chosen = (item) => item.querySelector("input:checked");
    box.querySelector(".save").addEventListener("click", () => {
      const pairs = all("li", box).filter(chosen).map((item) => ({ target: item.dataset.target, train: item.dataset.train, same: chosen(item).value === "same" }));
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([JSON.stringify({ pairs }, null, 1)], { type: "application/json" }));
      link.download = "answers.json";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
  });

  // Where the reader is
  const links = new Map(all(".bar nav a").map((a) => [a.getAttribute("href").slice(1), a]));
  const watch = new IntersectionObserver((entries) => entries.forEach((entry) => {
    if (!entry.isIntersecting) return;
    links.forEach((a) => a.removeAttribute("aria-current"));
    const link = links.get(entry.target.id);
    if (link) { link.setAttribute("aria-current", "true"); link.parentElement.scrollLeft = link.offsetLeft - link.parentElement.offsetLeft - 40; }
  }), { rootMargin: "-20% 0px -75% 0px" });
  all("main > section").forEach((s) => watch.observe(s));

  start();
})();
