"use strict";
const input = document.getElementById("search");
const found = document.getElementById("found");
const toggle = document.getElementById("all");
const ones = [...document.querySelectorAll("details.one")].map((one) => ({ one, text: one.textContent.toLowerCase() }));
const sections = [...document.querySelectorAll("main > section")];
const links = new Map([...document.querySelectorAll("aside a")].map((a) => [a.hash.slice(1), a.parentElement]));

function search() {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const { one, text } of ones) {
    const fits = words.every((word) => text.includes(word));
    one.hidden = !fits;
    links.get(one.id)?.toggleAttribute("hidden", !fits);
    count += fits ? 1 : 0;
  }
  for (const section of sections) {
    const own = [...section.querySelectorAll("details.one")];
    section.hidden = words.length > 0 && !own.some((one) => !one.hidden);
  }
  found.textContent = words.length > 0 ? `${count} found` : "";
}

function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target || !target.matches("details.one")) return;
  if (target.hidden) {
    input.value = "";
    search();
  }
  target.open = true;
  target.scrollIntoView({ behavior: "instant" });
}

input.addEventListener("input", search);
input.form.addEventListener("submit", (event) => event.preventDefault());
toggle.addEventListener("click", () => {
  const open = toggle.getAttribute("aria-pressed") !== "true";
  toggle.setAttribute("aria-pressed", String(open));
  toggle.textContent = open ? "Fold all" : "Unfold all";
  for (const { one } of ones) one.open = open;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== input && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    input.select();
  } else if (event.key === "Escape" && document.activeElement === input) {
    input.value = "";
    search();
    input.blur();
  }
});
window.addEventListener("hashchange", reveal);
search();
reveal();
