// Calls of the server, with the token of this tab where one is needed.

const KEY = "egrecho-token";

export const getToken = () => sessionStorage.getItem(KEY) || "";
export const setToken = (token) => sessionStorage.setItem(KEY, token);

export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  if (getToken()) headers.set("Authorization", `Bearer ${getToken()}`);
  const answer = await fetch(path, { ...options, headers });
  if (answer.ok) return answer;
  let found = {};
  try { found = await answer.json(); } catch { /* an answer of a proxy */ }
  throw new ApiError(answer.status, found.code, found.message || `the server answered ${answer.status}`);
}

export const getJson = async (path) => (await call(path)).json();
export const getBlob = async (path) => (await call(path)).blob();

// Server-sent events over fetch: EventSource cannot send an Authorization header.
export async function* events(path, signal) {
  let last = "";
  while (!signal.aborted) {
    try {
      const answer = await call(path, { signal, headers: last ? { "Last-Event-ID": last } : {} });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let waiting = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        const parts = (waiting + value).split(/\r?\n\r?\n/);
        waiting = parts.pop();
        for (const part of parts) {
          const event = { kind: "message", data: "" };
          for (const line of part.split(/\r?\n/)) {
            if (line.startsWith("event:")) event.kind = line.slice(6).trim();
            else if (line.startsWith("data:")) event.data += line.slice(5).trim();
            else if (line.startsWith("id:")) last = line.slice(3).trim();
          }
          if (event.data) yield { kind: event.kind, data: JSON.parse(event.data) };
        }
      }
    } catch (error) {
      if (signal.aborted || error instanceof ApiError) return;
      await new Promise((resolve) => setTimeout(resolve, 2000));  // the connection broke: go on where it was
    }
  }
}
