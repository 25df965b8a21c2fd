// Small helpers of the page; text of people goes through textContent only.

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

export function announce(text) {
  $("status").textContent = text;
}

export function begin() {
  $("alert").textContent = "";
}

export function fail(error) {
  $("alert").textContent = error.message || String(error);
}

export function button(text, action) {
  const made = element("button", { type: "button", textContent: text });
  made.addEventListener("click", async () => {
    made.disabled = true;
    begin();
    try { await action(); } catch (error) { fail(error); }
    made.disabled = false;
  });
  return made;
}

export const percent = (rate) => (rate === null || rate === undefined ? "?" : `${(100 * rate).toFixed(1)} %`);
