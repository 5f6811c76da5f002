// The overview as it goes on: numbers with each event of the stream, the rest and the charts a little later.
// Without this script the page is as of its loading.

import { localTimes } from "./page.js";

const PARTS_EVERY = 2000;
const CHARTS_EVERY = 10000;

const grouped = new Intl.NumberFormat("en");
const parser = new DOMParser();
let parts = Date.now();
let charts = Date.now();

function numbers(overview) {
  for (const [name, value] of Object.entries(overview.events)) {
    const number = document.querySelector(`[data-live="${name}"]`);
    if (number) number.textContent = grouped.format(value);
  }
  const hurting = document.querySelector('[data-live="EXHAUSTED"]');
  hurting?.closest("li").classList.toggle("hurts", overview.events.EXHAUSTED > 0);
}

async function text(address) {
  const answer = await fetch(address, { redirect: "error" });
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.text();
}

/** Puts in what the server says now; what holds the focus stays until that has gone on. */
async function refreshParts() {
  const fresh = parser.parseFromString(await text("/admin/live"), "text/html");
  for (const part of document.querySelectorAll("[data-part]")) {
    const now = fresh.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!now || part.contains(document.activeElement) || now.innerHTML === part.innerHTML) continue;
    part.replaceChildren(...now.childNodes);
    localTimes(part);
  }
}

async function refreshCharts() {
  const window = document.querySelector("[data-window]").dataset.window;
  for (const place of document.querySelectorAll("[data-chart]")) {
    const svg = await text(`/admin/charts/${place.dataset.chart}.svg?window=${window}`);
    place.replaceChildren(parser.parseFromString(svg, "image/svg+xml").documentElement);
  }
}

const stream = new EventSource("/api/admin/v1/stream");
stream.addEventListener("overview", async (event) => {
  numbers(JSON.parse(event.data));
  const now = Date.now();
  try {
    if (now - parts >= PARTS_EVERY) {
      parts = now;
      await refreshParts();
    }
    if (now - charts >= CHARTS_EVERY) {
      charts = now;
      await refreshCharts();
    }
  } catch {
    // The service is away for a moment, or somebody signed out: the next event tells.
  }
});
