// The page: lets its user in, fills the choices, starts trainings.

import { call, getJson, getToken, setToken } from "./api.js";
import { open, refresh, startTrying } from "./jobs.js";
import { datasetId, startRecordings } from "./recordings.js";
import { $, announce, begin as clear, element, fail } from "./ui.js";

const names = new Intl.DisplayNames([navigator.language || "en"], { type: "language", fallback: "code" });

async function begin() {
  let offers;
  try {
    offers = await getJson("/v1/offers");
  } catch (error) {
    if (error.status === 401) {
      $("token-form").hidden = false;
      $("token").focus();
      if (getToken()) fail(error);
      return;
    }
    return fail(error);
  }
  $("token-form").hidden = true;
  $("work").hidden = false;
  $("alert").textContent = "";
  $("model").replaceChildren(...offers.models.map((name) => element("option", { value: name, textContent: name })));
  const own = (navigator.language || "en").split("-")[0];
  const languages = offers.languages.map((code) => [code, language(code)]).sort((a, b) => a[1].localeCompare(b[1]));
  $("language").replaceChildren(element("option", { value: "", textContent: "detect it" }),
    ...languages.map(([code, name]) => element("option", { value: code, textContent: name, selected: code === own })));
  $("epochs").max = offers.limits.epochs;
  startRecordings(offers, changed);
  startTrying();
  refresh();
}

function language(code) {
  try { return names.of(code); } catch { return code; }
}

function changed(count, error) {
  $("start").disabled = count < 3;
  $("start-why").textContent = count < 3 ? error || "Needs at least three recordings with text." :
    count < 60 ? "More recordings give a surer answer; 100 to 300 are good." : "";
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken($("token").value.trim());
  $("token").value = "";
  begin();
});

$("job-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  form.set("dataset", datasetId());
  if (!form.get("language")) form.delete("language");
  $("start").disabled = true;
  clear();
  try {
    const job = await (await call("/v1/jobs", { method: "POST", body: form })).json();
    announce("The training is queued.");
    await refresh();
    await open(job.id, true);
  } catch (error) { fail(error); }
  $("start").disabled = false;
});

begin();
