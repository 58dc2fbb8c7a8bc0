// Follows a log: the gateway sends it whenever it is another than before.
"use strict";

(() => {
  const log = document.getElementById("log");
  const connection = document.getElementById("connection");
  let wait = 250;

  function show(text) {
    connection.textContent = text;
    connection.hidden = !text;
  }

  function connect() {
    const live = new WebSocket(location.origin.replace(/^http/, "ws") + log.dataset.of);
    live.onmessage = (message) => {
      const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 40;
      log.textContent = JSON.parse(message.data).text;
      if (atEnd) log.scrollTop = log.scrollHeight;
      wait = 250;
      show("");
    };
    live.onclose = (ended) => {
      if (ended.code === 4001) {
        location.reload();
        return;
      }
      show("Not connected. Trying again…");
      setTimeout(connect, wait);
      wait = Math.min(wait * 2, 5000);
    };
  }

  log.scrollTop = log.scrollHeight;
  connect();
})();
