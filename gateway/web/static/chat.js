// Sends what a person writes, drops, pastes or presses, without loading the page anew; what comes of it comes over
// /live.
"use strict";

(() => {
  const form = document.getElementById("say");
  const text = form.elements.text;
  const files = form.elements.files;
  const chosen = document.getElementById("chosen");
  const unsent = document.getElementById("unsent");
  const rows = document.getElementById("rows");
  const draft = `draft ${location.pathname}`;

  const identifier = () => crypto.randomUUID();

  function complain(told) {
    unsent.hidden = !told;
    unsent.textContent = told;
  }

  async function send(body) {
    const answer = await fetch(form.action, { method: "POST", body, redirect: "manual" }).catch(() => null);
    if (answer !== null && (answer.ok || answer.type === "opaqueredirect")) {
      complain("");
      return true;
    }
    const page = answer === null ? "" : await answer.text().catch(() => "");
    const told = new DOMParser().parseFromString(page, "text/html").querySelector("main > p");
    complain(`That was not sent. ${told ? told.textContent : "Send it again."}`);
    return false;
  }

  const words = (fields) => new URLSearchParams(fields);

  // --- what is written ----------------------------------------------------------------------------------------------

  form.elements.id.value = identifier();
  text.value = localStorage.getItem(draft) || text.value;
  text.addEventListener("input", () => localStorage.setItem(draft, text.value));
  text.addEventListener("keydown", (event) => {
    if (event.defaultPrevented) return;
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !matchMedia("(pointer: coarse)").matches) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = text.value;
    const sent = [...files.files];
    if (!said.trim() && !sent.length) return;
    form.setAttribute("aria-busy", "true");
    // The same id until it is taken: one that is sent twice is one message.
    const taken = await send(sent.length ? new FormData(form) : words({ text: said, id: form.elements.id.value }));
    form.removeAttribute("aria-busy");
    if (!taken) return;
    form.elements.id.value = identifier();
    if (text.value === said) text.value = "";
    localStorage.setItem(draft, text.value);
    choose([...files.files].filter((file) => !sent.includes(file)));
  });
  document.getElementById("stop").addEventListener("click", () => send(words({ text: "stop", id: identifier() })));
  rows.addEventListener("click", (event) => {
    const { say, presses } = event.target.dataset;
    if (say) send(words({ text: say, presses, id: identifier() }));
  });

  // --- files --------------------------------------------------------------------------------------------------------

  function choose(list) {
    const all = new DataTransfer();
    for (const file of list) all.items.add(file);
    files.files = all.files;
    chosen.replaceChildren(
      ...list.map((file) => {
        const item = document.createElement("li");
        const away = document.createElement("button");
        away.type = "button";
        away.textContent = `Remove ${file.name}`;
        away.addEventListener("click", () => choose([...files.files].filter((other) => other !== file)));
        item.append(away);
        return item;
      }),
    );
  }

  const add = (list) => choose([...files.files, ...list]);

  files.addEventListener("change", () => choose([...files.files]));
  text.addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    add(event.clipboardData.files);
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    add(event.dataTransfer.files);
  });

  // --- what was said before ------------------------------------------------------------------------------------------

  const older = document.getElementById("older");
  let loading = false;

  async function loadOlder() {
    if (loading || older.parentElement.hidden) return;
    loading = true;
    const answer = await fetch(older.href).catch(() => null);
    if (answer !== null && answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const below = document.documentElement.scrollHeight - scrollY;
      rows.prepend(...[...page.querySelectorAll("#rows > li")].filter((row) => !document.getElementById(row.id)));
      const next = page.getElementById("older");
      older.href = next.href;
      older.parentElement.hidden = next.parentElement.hidden;
      document.dispatchEvent(new Event("placed"));
      scrollTo(0, document.documentElement.scrollHeight - below);
    }
    loading = false;
  }

  older.addEventListener("click", (event) => {
    event.preventDefault();
    loadOlder();
  });
  scrollTo(0, document.body.scrollHeight);
  // Whoever comes near the top goes on reading.
  new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && scrollY > 0 && loadOlder(), {
    rootMargin: "400px",
  }).observe(older.parentElement);
  addEventListener("scroll", () => scrollY < 400 && loadOlder(), { passive: true });
})();
