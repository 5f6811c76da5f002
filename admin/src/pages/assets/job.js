// A job's progress, asked for each second until it ends; then the page is loaded once more, with the result.

const card = document.querySelector("[data-job]");
const grouped = new Intl.NumberFormat("en");

function show(job) {
  const bar = card.querySelector("progress");
  const met = job.done + job.skipped;
  bar.max = Math.max(job.expected, met, 1);
  bar.value = met;
  card.querySelector("[data-done]").textContent = grouped.format(job.done);
  card.querySelector("[data-skipped]").textContent = grouped.format(job.skipped);
  document.querySelector("[data-state]").textContent = job.state;
}

async function ask() {
  try {
    const answer = await fetch(`/api/admin/v1/jobs/${card.dataset.job}`);
    if (answer.status === 401) return location.reload();
    if (answer.ok) {
      const job = await answer.json();
      show(job);
      if (job.state === "done" || job.state === "cancelled") return location.reload();
    }
  } catch {
    // The service is away for a moment; the next question may find it.
  }
  setTimeout(ask, 1000);
}

setTimeout(ask, 300);
