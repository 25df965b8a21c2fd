// The loss and the error rate of a training over its steps, as SVG.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 46, RIGHT = 594, TOP = 14, BOTTOM = 206;

export function draw(svg, rows) {
  const losses = rows.filter((row) => typeof row.loss === "number").map((row) => [row.step, row.loss]);
  const rates = rows
    .map((row) => [row.step, row.eval_wer ?? row.eval_cer])
    .filter(([, rate]) => typeof rate === "number");
  for (const old of [...svg.children].slice(1)) old.remove();
  if (!losses.length && !rates.length) return "";
  const last = Math.max(1, ...losses.concat(rates).map(([step]) => step));
  const mostLoss = Math.max(1e-6, ...losses.map(([, loss]) => loss));
  const mostRate = Math.max(0.01, ...rates.map(([, rate]) => rate));
  const x = (step) => LEFT + (step / last) * (RIGHT - LEFT);
  const y = (value, most) => BOTTOM - (value / most) * (BOTTOM - TOP);
  for (const share of [0, 0.5, 1]) {
    const line = y(share, 1);
    add(svg, "line", { class: "grid", x1: LEFT, x2: RIGHT, y1: line, y2: line });
    add(svg, "text", { x: LEFT - 4, y: line + 4, "text-anchor": "end" }, (share * mostLoss).toPrecision(2));
    add(svg, "text", { x: RIGHT + 4, y: line + 4 }, `${(100 * share * mostRate).toFixed(0)} %`);
  }
  add(svg, "text", { x: LEFT, y: 232 }, "step 0");
  add(svg, "text", { x: RIGHT, y: 232, "text-anchor": "end" }, `step ${last}`);
  path(svg, "loss", losses.map(([step, loss]) => [x(step), y(loss, mostLoss)]));
  path(svg, "rate", rates.map(([step, rate]) => [x(step), y(rate, mostRate)]));
  for (const [step, rate] of rates) add(svg, "circle", { class: "dot", r: 3, cx: x(step), cy: y(rate, mostRate) });
  const loss = losses.length ? `loss ${losses.at(-1)[1].toPrecision(3)} (solid line, left)` : "";
  const rate = rates.length ? `error rate on dev ${(100 * rates.at(-1)[1]).toFixed(1)} % (dashed line, right)` : "";
  return [`step ${last}`, loss, rate].filter(Boolean).join(" · ");
}

function path(svg, name, points) {
  if (points.length) add(svg, "path", { class: name, d: points.map(([a, b], i) => `${i ? "L" : "M"}${a} ${b}`).join("") });
}

function add(svg, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  svg.append(element);
}
