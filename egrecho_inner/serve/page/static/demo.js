// One model, one recording: record or take a file, send it, show the text and offer it as files.

import { call } from "./api.js";
import { Recorder } from "./record.js";
import { $, announce, begin, element, fail } from "./ui.js";

const recorder = new Recorder((level) => { $("level").value = level; });
let recording = false;
let limit = 0;

async function transcribe(audio) {
  begin();
  $("text").textContent = "";
  $("about").textContent = "";
  $("files").replaceChildren();
  $("player").src = URL.createObjectURL(audio);
  $("player").hidden = false;
  announce("Transcribing …");
  const began = performance.now();
  try {
    const found = await (await call("/v1/transcribe", { method: "POST", body: audio })).json();
    $("text").textContent = found.text || "(no words)";
    const seconds = (performance.now() - began) / 1000;
    $("about").textContent =
      `${found.seconds.toFixed(1)} s of audio in ${seconds.toFixed(1)} s` + (found.language ? `, language ${found.language}` : "");
    for (const [name, content] of Object.entries(found.files)) {
      const link = element("a", { className: "button", textContent: `Save .${name}`, download: `recording.${name}` });
      link.href = URL.createObjectURL(new Blob([content], { type: "text/plain" }));
      $("files").append(link);
    }
    announce("Done.");
  } catch (error) {
    announce("");
    fail(error);
  }
}

async function toggle() {
  begin();
  try {
    if (!recording) {
      await recorder.start();
      recording = true;
      announce("Recording …");
      limit = setTimeout(toggle, 1000 * Number(document.body.dataset.longest));
    } else {
      clearTimeout(limit);
      recording = false;
      const wav = await recorder.stop();
      show();
      await transcribe(wav);
    }
  } catch (error) {
    recording = false;
    announce("");
    fail(error);
  }
  show();
}

function show() {
  $("record").setAttribute("aria-pressed", String(recording));
  $("record").textContent = recording ? "Stop" : "Record";
}

$("record").addEventListener("click", toggle);
$("file").addEventListener("change", () => { if ($("file").files[0]) transcribe($("file").files[0]); });
for (const name of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) transcribe(event.dataTransfer.files[0]);
  });
}
