"use strict";
const box = document.getElementById("cards");
const cards = Array.from(box.children);
const [find, kind, order, count] = ["find", "kind", "order", "count"].map((id) => document.getElementById(id));
// textContent of an aligned error has no space in it, so the texts as written are searched too
const texts = new Map(cards.map((card) => [card, card.textContent.toLowerCase()]));

function filter() {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const card of cards) {
    const kinds = card.dataset.kinds.split(" ");
    const fits = (!kind.value || kinds.includes(kind.value)) && words.every((word) => texts.get(card).includes(word));
    card.hidden = !fits;
    shown += fits;
  }
  count.textContent = `${shown} of ${cards.length}`;
}

function sort() {
  const key = order.value;
  const sorted = cards.slice().sort((a, b) => b.dataset[key] - a.dataset[key]);
  box.append(...sorted);
}

document.getElementById("controls").hidden = false;
find.addEventListener("input", filter);
kind.addEventListener("change", filter);
order.addEventListener("change", sort);
filter();
