// Keeps a page as things are: takes what the gateway tells over /live and puts it where it belongs.
"use strict";

(() => {
  const ANEW = 4000, LOGGED_OUT = 4001;
  const list = document.querySelector("[data-at]");
  const connection = document.getElementById("connection");
  let at = list ? list.dataset.at : "";
  let wait = 250;

  function show(text) {
    connection.textContent = text;
    connection.hidden = !text;
  }

  // Rows stand by their name, or by their time.
  const order = (row) => row.dataset.order || row.dataset.name;

  function place(part) {
    const made = document.createElement("template");
    made.innerHTML = part.html;
    const row = made.content.firstElementChild;
    const parent = document.getElementById(part.in);
    if (!parent) return;
    const after = [...parent.children].find((other) => order(other) > order(row));
    parent.insertBefore(row, after || null);
  }

  // --- while nobody looks --------------------------------------------------------------------------------------------

  const notify = document.getElementById("notify");
  const told = new Set([...document.querySelectorAll("#needs li, .theirs:not([data-live])")].map((row) => row.id));

  const can = () => "Notification" in window && Notification.permission === "granted";

  // Once for each answer that is whole, and each question.
  function tellOfNews() {
    for (const row of document.querySelectorAll("#needs li, .theirs:not([data-live])")) {
      if (told.has(row.id)) continue;
      told.add(row.id);
      if (!document.hidden || !can()) continue;
      const body = row.querySelector(".text")?.innerText.slice(0, 200) ?? "";
      const note = new Notification(document.title, { body, tag: row.id });
      note.addEventListener("click", () => (focus(), note.close()));
    }
  }

  if (list && "Notification" in window && Notification.permission === "default") {
    notify.hidden = false;
    notify.addEventListener("click", async () => {
      await Notification.requestPermission();
      notify.hidden = true;
    });
  }

  // --- what the gateway tells ----------------------------------------------------------------------------------------

  function take(part) {
    const old = document.getElementById(part.id);
    if (!part.html) {
      if (old) old.remove();
    } else if (old && (!order(old) || part.html.includes(`"${order(old)}"`))) {
      Idiomorph.morph(old, part.html, { morphStyle: "outerHTML" });
    } else {
      if (old) old.remove();
      place(part);
    }
  }

  function age(seconds) {
    if (seconds < 60) return "just now";
    if (seconds < 3600) return `for ${Math.floor(seconds / 60)} min`;
    return `for ${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  }

  function tellTimes() {
    for (const time of document.querySelectorAll("time[data-clock]")) {
      const at = new Date(time.dateTime);
      const today = at.toDateString() === new Date().toDateString();
      const clock = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
      time.textContent = today ? clock : `${at.toLocaleDateString()} ${clock}`;
      time.title = at.toLocaleString();
    }
    for (const row of document.querySelectorAll("[data-until]")) {
      if (new Date(row.dataset.until) < Date.now()) row.remove();
    }
    for (const time of document.querySelectorAll("time[data-age]")) {
      const since = new Date(time.dateTime);
      time.textContent = age((Date.now() - since) / 1000);
      time.title = since.toLocaleString();
    }
  }

  function connect() {
    const address = location.origin.replace(/^http/, "ws");
    const shown = new URLSearchParams({ after: at });
    for (const what of ["chat", "project", "flow"]) if (list.dataset[what]) shown.set(what, list.dataset[what]);
    const live = new WebSocket(`${address}/live?${shown}`);
    live.onmessage = (message) => {
      const told = JSON.parse(message.data);
      const atEnd = innerHeight + scrollY >= document.body.scrollHeight - 80;
      told.parts.forEach(take);
      at = told.at;
      wait = 250;
      show("");
      tellTimes();
      tellOfNews();
      if (atEnd && list.dataset.chat) scrollTo(0, document.body.scrollHeight);
    };
    live.onclose = (ended) => {
      if (ended.code === ANEW || ended.code === LOGGED_OUT) {
        location.reload();
        return;
      }
      show("Not connected. Trying again…");
      setTimeout(connect, wait);
      wait = Math.min(wait * 2, 5000);
    };
  }

  // A button of its own is pressed without leaving the page; what comes of it comes over /live.
  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.classList.contains("press")) return;
    event.preventDefault();
    const body = new URLSearchParams(new FormData(form));
    const answer = await fetch(form.action, { method: "POST", body, redirect: "manual" }).catch(() => null);
    if (answer === null || !(answer.ok || answer.type === "opaqueredirect")) show("That was not sent. Press it again.");
  });

  // What is copied is what was written, without the page around it.
  document.addEventListener("click", async (event) => {
    const button = event.target;
    if (!("copy" in button.dataset)) return;
    const copied = button.dataset.copy || button.parentElement.querySelector("code").textContent.replace(/\n$/, "");
    const done = await navigator.clipboard.writeText(copied).then(() => true, () => false);
    button.textContent = done ? "Copied" : "Press Ctrl+C";
    if (!done) getSelection().selectAllChildren(button.parentElement.querySelector("code"));
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });

  tellTimes();
  document.addEventListener("placed", tellTimes);
  setInterval(tellTimes, 5000);
  if (list) connect();
})();
