// Sends what a person writes, or presses, without loading the page anew; what comes of it comes over /live.
"use strict";

(() => {
  const form = document.getElementById("say");
  const text = form.elements.text;
  const unsent = document.getElementById("unsent");
  const draft = `draft ${location.pathname}`;

  const identifier = () => crypto.randomUUID();

  async function send(fields) {
    const answer = await fetch(form.action, {
      method: "POST",
      body: new URLSearchParams(fields),
      redirect: "manual",
    }).catch(() => null);
    const taken = answer !== null && (answer.ok || answer.type === "opaqueredirect");
    unsent.hidden = taken;
    unsent.textContent = taken ? "" : "That was not sent. Send it again.";
    return taken;
  }

  form.elements.id.value = identifier();
  text.value = localStorage.getItem(draft) || text.value;
  text.addEventListener("input", () => localStorage.setItem(draft, text.value));
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = text.value;
    if (!said.trim()) return;
    // The same id until it is taken: one that is sent twice is one message.
    if (await send({ text: said, id: form.elements.id.value })) {
      form.elements.id.value = identifier();
      if (text.value === said) text.value = "";
      localStorage.setItem(draft, text.value);
    }
  });
  document.getElementById("stop").addEventListener("click", () => send({ text: "stop", id: identifier() }));
  document.getElementById("rows").addEventListener("click", (event) => {
    const { say, presses } = event.target.dataset;
    if (say) send({ text: say, presses, id: identifier() });
  });
  scrollTo(0, document.body.scrollHeight);
})();
