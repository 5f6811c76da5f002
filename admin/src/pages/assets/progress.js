// The progress of what runs, asked for each second until it ends; then the page is loaded once more, with the result.

const card = document.querySelector("[data-progress]");
const grouped = new Intl.NumberFormat("en");

function pace(item) {
  if (item.keys_per_second == null) return "";
  const speed = `${grouped.format(Math.round(item.keys_per_second))} per second`;
  return item.seconds_left == null ? speed : `${speed}, about ${grouped.format(Math.ceil(item.seconds_left))} s left`;
}

function place(item) {
  if (item.cursor == null) return "";
  return item.cursor_version == null ? item.cursor : `${item.cursor}, version ${item.cursor_version}`;
}

const made = { pace, place };

function show(item) {
  for (const part of card.querySelectorAll("[data-field]")) {
    const value = made[part.dataset.field]?.(item) ?? item[part.dataset.field] ?? "";
    part.textContent = typeof value === "number" ? grouped.format(value) : value;
  }
  const bar = card.querySelector("progress[max]");
  if (bar) {
    if (item.expected > 0) bar.max = item.expected;
    bar.value = item.done + (item.skipped ?? 0);
  }
  document.querySelector("[data-state]").textContent = item.state.replaceAll("_", " ");
}

async function ask() {
  try {
    const answer = await fetch(card.dataset.progress);
    if (answer.status === 401) return location.reload();
    if (answer.ok) {
      const item = await answer.json();
      show(item);
      if (item.ended_at) return location.reload();
    }
  } catch {
    // The service is away for a moment; the next question may find it.
  }
  setTimeout(ask, 1000);
}

setTimeout(ask, 300);
