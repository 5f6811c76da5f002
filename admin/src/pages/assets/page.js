// What every page gets on top of plain HTML: local times, copying, selecting, keys. Nothing depends on it.

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

/** Puts the local time into the title of each moment below `root`. */
export function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.getTime())) time.title = `${local.format(moment)} here · ${time.dateTime}`;
  }
}

function copying() {
  if (!navigator.clipboard) return;
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = button.firstChild.textContent;
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.firstChild.textContent = "Copied";
    } catch {
      button.firstChild.textContent = "Not allowed";
    }
    setTimeout(() => { button.firstChild.textContent = text; }, 1500);
  });
}

/** A box that selects all rows, and the number of those that are. */
function selecting() {
  const all = document.querySelector("[data-select-all]");
  const boxes = [...document.querySelectorAll("[data-select]")];
  const shown = document.querySelector("[data-selected]");
  if (!all || boxes.length === 0) return;
  all.hidden = false;
  const count = () => {
    const selected = boxes.filter((box) => box.checked).length;
    all.checked = selected === boxes.length;
    all.indeterminate = selected > 0 && selected < boxes.length;
    if (shown) shown.textContent = selected === 0 ? "none selected" : `${selected} selected`;
  };
  all.addEventListener("change", () => {
    for (const box of boxes) box.checked = all.checked;
    count();
  });
  for (const box of boxes) box.addEventListener("change", count);
  count();
}

const rows = () => [...document.querySelectorAll("[data-row]")];

function step(by) {
  const all = rows();
  if (all.length === 0) return;
  const now = all.findIndex((row) => row.classList.contains("here"));
  const next = all[now < 0 ? 0 : Math.min(Math.max(now + by, 0), all.length - 1)];
  for (const row of all) row.classList.toggle("here", row === next);
  const first = next.querySelector("a[href], input, button, summary");
  if (first) first.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

const places = { o: "/admin", e: "/admin/events", a: "/admin/alerts" };
let going = 0;

function key(event) {
  const typing = event.target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const here = document.querySelector("[data-row].here");
  const soon = Date.now() - going < 1000;
  if (soon && places[event.key]) {
    location.href = places[event.key];
  } else if (event.key === "g") {
    going = Date.now();
    return;
  } else if (event.key === "j") {
    step(1);
  } else if (event.key === "k") {
    step(-1);
  } else if (event.key === "/") {
    document.querySelector("[data-search]")?.focus();
  } else if (event.key === "x") {
    here?.querySelector("[data-select]")?.click();
  } else if (event.key === "Enter" && event.target === document.body) {
    here?.querySelector("a[href]")?.click();
  } else if (event.key === "?") {
    document.getElementById("keys")?.showModal();
  } else {
    return;
  }
  event.preventDefault();
}

for (const hint of document.querySelectorAll("[data-scripted]")) hint.hidden = false;
localTimes(document);
copying();
selecting();
document.addEventListener("keydown", key);
