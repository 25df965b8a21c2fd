// The recordings: dropped, chosen or spoken; sent one by one; shown with their splits.

import { call, getJson } from "./api.js";
import { MOST_SECONDS, Recorder } from "./record.js";
import { $, announce, begin, element, fail } from "./ui.js";

const AUDIO = /\.(wav|flac|mp3|m4a|ogg|opus|webm|aac|aiff|mp4|mka)$/i;
const TEXT = /\.(txt|csv)$/i;
const AT_ONCE = 3;

let dataset = null;
let sentences = [];
let spoken = new Set();
let recorder = null;
let take = null;
let onChange = () => {};

export const datasetId = () => dataset;

export function startRecordings(offers, changed) {
  sentences = offers.sentences;
  onChange = changed;
  nextSentence();
  for (const id of ["folder", "files"]) $(id).addEventListener("change", (event) => send([...event.target.files], event.target));
  const drop = $("drop");
  for (const kind of ["dragover", "dragenter"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    send(await droppedFiles(event.dataTransfer));
  });
  $("skip").addEventListener("click", nextSentence);
  $("record").addEventListener("click", toggle);
  $("again").addEventListener("click", () => { $("take").hidden = true; toggle(); });
  $("keep").addEventListener("click", keep);
}

async function ensureDataset() {
  if (!dataset) dataset = (await (await call("/v1/datasets", { method: "POST" })).json()).id;
  return dataset;
}

async function put(name, content) {
  const id = await ensureDataset();
  await call(`/v1/datasets/${id}/files/${encodeURIComponent(name)}`, { method: "PUT", body: content });
}

async function send(files, input) {
  begin();
  const wanted = files.filter((file) => !file.name.startsWith(".") && (AUDIO.test(file.name) || TEXT.test(file.name)));
  if (!wanted.length) return fail(new Error("There is no audio and no text among these files."));
  const bar = $("upload");
  bar.hidden = false;
  bar.max = wanted.length;
  bar.value = 0;
  const refused = [];
  try {
    await ensureDataset();
    const queue = [...wanted];
    await Promise.all(Array.from({ length: AT_ONCE }, async () => {
      for (let file = queue.shift(); file; file = queue.shift()) {
        try { await put(file.name, file); } catch (error) { refused.push(`${file.name}: ${error.message}`); }
        bar.value += 1;
      }
    }));
    if (refused.length) fail(new Error(`${refused.length} files were refused. ${refused.slice(0, 5).join("; ")}`));
    announce(`${wanted.length - refused.length} files are on the server.`);
    await showSplits();
  } catch (error) { fail(error); }
  bar.hidden = true;
  if (input) input.value = "";
}

async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  const found = [];
  for (const entry of entries) {
    if (entry.isFile) found.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    else {
      const reader = entry.createReader();
      for (;;) {
        const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!some.length) break;
        for (const each of some) if (each.isFile) found.push(await new Promise((resolve, reject) => each.file(resolve, reject)));
      }
    }
  }
  return found;
}

function currentText() {
  return $("sentence-own").value.trim() || $("sentence").textContent;
}

function nextSentence() {
  const left = sentences.filter((text) => !spoken.has(text));
  const at = left.indexOf($("sentence").textContent);
  $("sentence").textContent = left.length ? left[(at + 1) % left.length] : "All sentences are read. Write your own below.";
  $("sentence-own").value = "";
}

async function toggle() {
  const button = $("record");
  begin();
  if (recorder) {
    const running = recorder;
    recorder = null;
    button.setAttribute("aria-pressed", "false");
    button.textContent = "Record";
    try {
      take = { wav: await running.stop(), text: currentText() };
      $("take-audio").src = URL.createObjectURL(take.wav);
      $("take").hidden = false;
      $("keep").focus();
      announce("Recorded. Listen, then keep it or record again.");
    } catch (error) { fail(error); }
    return;
  }
  try {
    const fresh = new Recorder((level) => { $("level").value = level; });
    await fresh.start();
    recorder = fresh;
    $("take").hidden = true;
    button.setAttribute("aria-pressed", "true");
    button.textContent = "Stop";
    announce("Recording.");
    setTimeout(() => { if (recorder === fresh) toggle(); }, 1000 * MOST_SECONDS);
  } catch (error) { fail(error); }
}

async function keep() {
  if (!take) return;
  const uid = `rec_${new Date().toISOString().replace(/[^0-9]/g, "").slice(0, 17)}`;
  try {
    await put(`${uid}.wav`, take.wav);
    await put(`${uid}.txt`, new Blob([take.text]));
    spoken.add(take.text);
    take = null;
    $("take").hidden = true;
    nextSentence();
    await showSplits();
    announce(`${spoken.size} sentences recorded.`);
    $("record").focus();
  } catch (error) { fail(error); }
}

export async function showSplits() {
  const report = await getJson(`/v1/datasets/${dataset}`);
  $("splits").hidden = false;
  const rows = report.recordings || [];
  const good = rows.filter((row) => !row.fault);
  onChange(report.error ? 0 : good.length, report.error);
  if (report.error) {
    $("split-summary").textContent = `Not yet: ${report.error}`;
    $("split-notes").replaceChildren();
    return;
  }
  const length = report.seconds < 60 ? `${Math.round(report.seconds)} seconds` : `${(report.seconds / 60).toFixed(1)} minutes`;
  const { train, dev, test } = report.splits;
  $("split-summary").textContent = `${good.length} recordings, ${length}. ` + (test
    ? `${train || 0} are learned (train), ${dev || 0} choose the best moment to stop (dev), ${test} are kept back to measure the result (test).`
    : `So few that they are divided into ${Object.keys(report.splits).length} parts, and each is tested in turn by a model that has not learned it; the final model learns all.`);
  const notes = report.notes.map((text) => element("li", { textContent: text }));
  const broken = rows.filter((row) => row.fault).map((row) => element("li", { textContent: `${row.file}: ${row.fault}` }));
  $("split-notes").replaceChildren(...notes, ...broken, ...report.skipped.map(skippedItem));
  $("recordings").replaceChildren(...rows.map(recordingRow));
}

function skippedItem({ uid, reason }) {
  const item = element("li", { textContent: `${uid}: ${reason} ` });
  if (reason === "no transcript" || reason === "empty transcript") {
    const input = element("input", { type: "text", ariaLabel: `Text of ${uid}`, placeholder: "Its text" });
    const save = element("button", { type: "button", textContent: "Save text" });
    save.addEventListener("click", async () => {
      try { await put(`${uid}.txt`, new Blob([input.value])); await showSplits(); } catch (error) { fail(error); }
    });
    item.append(input, save);
  }
  return item;
}

function recordingRow(row) {
  const remove = element("button", { type: "button", textContent: "Remove", ariaLabel: `Remove ${row.uid}` });
  remove.addEventListener("click", async () => {
    try {
      for (const name of [row.file, `${row.uid}.txt`]) {
        await call(`/v1/datasets/${dataset}/files/${encodeURIComponent(name)}`, { method: "DELETE" }).catch((error) => {
          if (error.status !== 404) throw error;
        });
      }
      await showSplits();
    } catch (error) { fail(error); }
  });
  const cell = (text, cls) => element("td", { textContent: text, className: cls || "", dir: "auto" });
  const last = element("td");
  last.append(remove);
  const line = element("tr");
  line.append(cell(row.uid), cell(row.text), cell(row.fault ? "cannot be used" : row.split), cell(row.seconds.toFixed(1), "num"), last);
  return line;
}
