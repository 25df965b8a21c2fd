// The trainings: a list, and one of them watched, compared and downloaded.

import { call, events, getBlob, getJson } from "./api.js";
import { draw } from "./chart.js";
import { Recorder } from "./record.js";
import { $, announce, begin, button, element, fail, percent } from "./ui.js";

const ENDED = ["succeeded", "failed", "cancelled"];
const WORDS = { queued: "waiting", succeeded: "finished", interrupted: "interrupted" };
const POLL = 4000;

let shown = null;
let watching = null;
let metrics = [];
let timer = 0;

export async function refresh() {
  clearTimeout(timer);
  try {
    const { jobs } = await getJson("/v1/jobs?all=false");
    $("no-jobs").hidden = jobs.length > 0;
    $("jobs").replaceChildren(...jobs.map(listItem));
    timer = setTimeout(refresh, jobs.some((job) => !ENDED.includes(job.state)) ? POLL : 4 * POLL);
  } catch (error) {
    if (error.status !== 401) timer = setTimeout(refresh, 4 * POLL);
  }
}

function title(job) {
  return job.name || `${job.options.base_model_name}, ${new Date(1000 * job.created).toLocaleString()}`;
}

function state(job) {
  if (job.cancelling) return "stopping";
  if (job.state === "queued") return job.ahead ? `waiting, ${job.ahead} before it` : "waiting";
  return WORDS[job.state] || (job.state === "failed" ? "failed" : job.phase || job.state);
}

function listItem(job) {
  const item = element("li");
  const choose = button(`${title(job)}: ${state(job)}`, () => open(job.id, true));
  if (job.id === shown) choose.setAttribute("aria-current", "true");
  item.append(choose);
  return item;
}

export async function open(id, focus) {
  shown = id;
  metrics = [];
  watching?.abort();
  watching = new AbortController();
  for (const part of ["verdict", "curves", "compare", "try"]) $(part).hidden = true;
  $("job").hidden = false;
  await show(id);
  if (focus) $("h-job").focus();
  watch(id, watching.signal);
}

async function watch(id, signal) {
  for await (const { kind, data } of events(`/v1/jobs/${id}/events`, signal)) {
    if (shown !== id) return;
    if (kind === "metric") {
      metrics.push(data);
      const caption = draw($("chart"), metrics.filter((row) => row.run === metrics.at(-1).run));
      $("curves").hidden = !caption;
      $("chart-caption").textContent = caption;
    } else if (kind === "state") {
      await show(id);
      refresh();
      announce(`${$("h-job").textContent}: ${$("job-state").textContent}`);
    }
  }
  if (!signal.aborted) await show(id);
}

async function show(id) {
  const job = await getJson(`/v1/jobs/${id}`);
  if (shown !== id) return;
  $("h-job").textContent = title(job);
  const cost = job.cost?.cost ? `, ${job.cost.cost} spent` : "";
  $("job-state").textContent = state(job) + (job.seconds ? ` after ${Math.round(job.seconds)} s${cost}` : "") +
    (job.error ? `: ${job.error.message}` : "");
  $("job-actions").replaceChildren(...actions(job));
  if (job.report) await showReport(job);
  if (job.state === "succeeded") $("try").hidden = false;
  $("log").textContent = await (await call(`/v1/jobs/${id}/logs`)).text();
}

function actions(job) {
  const made = [];
  const post = (path) => async () => { await call(`/v1/jobs/${job.id}/${path}`, { method: "POST" }); await open(job.id); };
  if (!ENDED.includes(job.state)) made.push(button("Cancel", post("cancel")));
  if (["cancelled", "failed"].includes(job.state)) made.push(button("Continue", post("resume")));
  if (!ENDED.includes(job.state) && job.state !== "queued") made.push(button("TensorBoard", () => board(job.id)));
  if (job.state === "succeeded") {
    const download = button("Download the model", () => save(job.id));
    download.className = "primary";
    download.id = "download";
    made.unshift(download);
  }
  if (ENDED.includes(job.state) || job.state === "queued") made.push(button("Delete everything of it", () => remove(job.id)));
  return made;
}

async function save(id) {
  announce("Downloading.");
  const link = element("a", { href: URL.createObjectURL(await getBlob(`/v1/jobs/${id}/artifact`)), download: `${id}.tar.gz` });
  document.body.append(link);
  link.click();
  link.remove();
  announce("Downloaded: results/model holds the model, results/faster_whisper the same for faster-whisper, the texts the error rates.");
}

async function board(id) {
  await call(`/v1/jobs/${id}/tensorboard`, { method: "POST" });
  window.open(`/v1/jobs/${id}/tensorboard/`, "_blank", "noopener");
}

async function remove(id) {
  if (!confirm("Delete this training with its recordings and model?")) return;
  await call(`/v1/jobs/${id}`, { method: "DELETE" });
  watching?.abort();
  shown = null;
  $("job").hidden = true;
  announce("Deleted.");
  $("h-jobs").scrollIntoView();
  $("main").focus();
}

async function showReport(job) {
  const { report } = job;
  const before = report.base_scores.test, after = report.tuned_scores.test;
  const metric = { wer: "Word error rate (WER)", cer: "Character error rate (CER)" }[report.metric] || report.metric.toUpperCase();
  const box = $("verdict");
  box.hidden = false;
  box.className = `verdict ${report.adopted ? "good" : "bad"}`;
  const head = element("strong", {
    textContent: report.adopted ? "Better: use the tuned model." : `Keep the base model (${report.verdict}).`,
  });
  const text = `${metric} on ${before.utterances} recordings that were not learned: base model ${figure(before)}, tuned model ${figure(after)}.`;
  const lines = [head, element("p", { textContent: text })];
  if (report.guard) lines.push(element("p", { textContent: `Errors on others' voices: ${points(report.guard.forgotten)}, with ${report.guard.alpha} of the tuned weights.` }));
  for (const note of report.notes || []) lines.push(element("p", { className: "note", textContent: note }));
  box.replaceChildren(...lines);
  if ($("compare").hidden) await showPairs(job.id);
}

const figure = (part) => percent(part.error_rate) + (part.interval ? ` (95 % interval ${percent(part.interval[0])} to ${percent(part.interval[1])})` : "");
const points = (delta) => (delta === null ? "not measured" : `${delta > 0 ? "+" : ""}${(100 * delta).toFixed(2)} points`);

async function showPairs(id) {
  try {
    const { recordings } = await getJson(`/v1/jobs/${id}/compare`);
    $("pairs").replaceChildren(...recordings.map((row) => pair(id, row)));
    $("compare").hidden = recordings.length === 0;
  } catch (error) {
    if (error.status !== 404) fail(error);
  }
}

function pair(id, row) {
  const item = element("li");
  const play = button(`Play ${row.uid}`, async () => {
    const audio = element("audio", { controls: true, src: URL.createObjectURL(await getBlob(`/v1/jobs/${id}/clips/${encodeURIComponent(row.uid)}`)) });
    play.replaceWith(audio);
    audio.focus();
    await audio.play();
  });
  const list = element("dl", { className: "pair" });
  for (const [name, content] of [["text", [row.text]], ["base", marked(row.base)], ["tuned", marked(row.tuned)]]) {
    const answer = element("dd", { dir: "auto" });
    answer.append(...content);
    list.append(element("dt", { textContent: name }), answer);
  }
  item.append(play, list);
  return item;
}

function marked(side) {
  const parts = [];
  for (const [wanted, got] of side.words) {
    if (wanted === got) parts.push(got, " ");
    else if (got === null) parts.push(element("mark", { className: "gone", textContent: wanted, title: "left out" }), " ");
    else parts.push(element("mark", { textContent: got, title: wanted ? `for ${wanted}` : "added" }), " ");
  }
  return parts.length ? parts : ["(nothing)"];
}

let recorder = null;

export function startTrying() {
  $("try-file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (file) await transcribe(file);
    event.target.value = "";
  });
  $("try-record").addEventListener("click", toggle);
}

async function toggle() {
  begin();
  try {
    if (!recorder) {
      recorder = new Recorder(() => {});
      await recorder.start();
      pressed(true);
      return;
    }
    const running = recorder;
    recorder = null;
    pressed(false);
    await transcribe(await running.stop());
  } catch (error) {
    recorder = null;
    pressed(false);
    fail(error);
  }
}

function pressed(on) {
  $("try-record").setAttribute("aria-pressed", String(on));
  $("try-record").textContent = on ? "Stop" : "Record something";
}

async function transcribe(audio) {
  begin();
  announce("Transcribing.");
  try {
    const texts = await (await call(`/v1/jobs/${shown}/transcribe`, { method: "POST", body: audio })).json();
    $("try-texts").replaceChildren(...["base", "tuned"].flatMap((name) => [
      element("dt", { textContent: name }), element("dd", { textContent: texts[name] || "(nothing)", dir: "auto" }),
    ]));
    announce("Transcribed.");
  } catch (error) { fail(error); }
}
