// Keeps a page as things are: takes what the gateway tells over /live and puts it where it belongs.
"use strict";

(() => {
  const ANEW = 4000, LOGGED_OUT = 4001;
  const list = document.querySelector("[data-at]");
  const connection = document.getElementById("connection");
  let at = list.dataset.at;
  let wait = 250;

  function show(text) {
    connection.textContent = text;
    connection.hidden = !text;
  }

  function place(part) {
    const made = document.createElement("template");
    made.innerHTML = part.html;
    const row = made.content.firstElementChild;
    const parent = document.getElementById(part.in);
    const after = [...parent.children].find((other) => other.dataset.name > row.dataset.name);
    parent.insertBefore(row, after || null);
  }

  function take(part) {
    const old = document.getElementById(part.id);
    if (!part.html) {
      if (old) old.remove();
    } else if (old && part.html.includes(`data-name="${old.dataset.name}"`)) {
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

  function tellAges() {
    for (const time of document.querySelectorAll("time[data-age]")) {
      const since = new Date(time.dateTime);
      time.textContent = age((Date.now() - since) / 1000);
      time.title = since.toLocaleString();
    }
  }

  function connect() {
    const address = location.origin.replace(/^http/, "ws");
    const live = new WebSocket(`${address}/live?after=${encodeURIComponent(at)}`);
    live.onmessage = (message) => {
      const told = JSON.parse(message.data);
      told.parts.forEach(take);
      at = told.at;
      wait = 250;
      show("");
      tellAges();
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

  tellAges();
  setInterval(tellAges, 15000);
  connect();
})();
