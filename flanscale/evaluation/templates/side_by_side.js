"use strict";
(() => {
  const sheet = document.documentElement.dataset.sheet;
  const place = `flanscale-sheet-${sheet}`;
  const items = [...document.querySelectorAll(".item")];
  const part = (name) => document.getElementById(name);
  let at = 0;

  const judgement = (item) => ({
    sheet,
    rater: part("rater").value.trim(),
    key: item.dataset.key,
    better: item.elements.better.value,
    failed: [...item.elements.failed].filter((box) => box.checked).map((box) => box.value),
  });
  const isJudged = (item) => item.elements.better.value !== "";

  function keep() {
    const state = { rater: part("rater").value, at, judged: items.map(judgement) };
    try {
      localStorage.setItem(place, JSON.stringify(state));
    } catch {
      part("forgetful").hidden = false;
    }
  }

  function recall() {
    let state = null;
    try {
      state = JSON.parse(localStorage.getItem(place));
    } catch {
      part("forgetful").hidden = false;
    }
    if (!state) return;
    part("rater").value = state.rater;
    at = state.at;
    items.forEach((item, number) => {
      const { better, failed } = state.judged[number];
      item.elements.better.value = better;
      for (const box of item.elements.failed) box.checked = failed.includes(box.value);
    });
  }

  function show(number) {
    at = Math.min(Math.max(number, 0), items.length - 1);
    items.forEach((item, other) => { item.hidden = other !== at; });
    tell();
    scrollTo(0, 0);
  }

  function tell() {
    const judged = items.filter(isJudged).length;
    part("progress").value = judged;
    part("judged").textContent = `${judged} of ${items.length} judged`;
    part("previous").disabled = at === 0;
    part("next").disabled = at === items.length - 1;
    part("open").disabled = judged === items.length;
    part("save").disabled = judged === 0;
    keep();
  }

  function save() {
    const lines = items.filter(isJudged).map((item) => `${JSON.stringify(judgement(item))}\n`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(lines, { type: "application/x-ndjson" }));
    const rater = part("rater").value.trim().replace(/[^\p{L}\p{N}]+/gu, "_");
    link.download = `judgements-${sheet}${rater && `-${rater}`}.jsonl`;
    link.click();
  }

  const keys = {
    1: () => choose("1"),
    2: () => choose("2"),
    t: () => choose("tie"),
    n: () => show(at + 1),
    p: () => show(at - 1),
  };

  function choose(better) {
    items[at].elements.better.value = better;
    tell();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === part("rater")) return;
    if (Object.hasOwn(keys, event.key)) keys[event.key]();
  });
  document.addEventListener("input", tell);
  document.addEventListener("submit", (event) => event.preventDefault());
  part("previous").addEventListener("click", () => show(at - 1));
  part("next").addEventListener("click", () => show(at + 1));
  part("open").addEventListener("click", () => show(items.findIndex((item) => !isJudged(item))));
  part("save").addEventListener("click", save);
  recall();
  show(at);
})();
