// The palette on Ctrl+K, and what completes a command while it is written.
"use strict";

(() => {
  const dialog = document.getElementById("palette");
  const search = dialog.querySelector("input");
  const list = dialog.querySelector("ul");
  let offered = null;

  // Without a gateway there is nothing to offer, until it is back.
  const offer = () =>
    (offered ??= fetch("/palette")
      .then((answer) => (answer.ok ? answer.json() : Promise.reject(answer)))
      .catch(() => {
        offered = null;
        return { commands: [], projects: [] };
      }));

  // --- a list under a field, from which one is chosen ----------------------------------------------------------------

  function options(field, list, found, choose) {
    list.replaceChildren(
      ...found.map((one, number) => {
        const item = document.createElement("li");
        item.id = `${list.id}-${number}`;
        item.role = "option";
        const says = document.createElement("strong");
        says.textContent = one.shown;
        item.append(says, ` ${one.told}`);
        // Before the field loses the focus.
        item.addEventListener("mousedown", (event) => {
          event.preventDefault();
          choose(one);
        });
        return item;
      }),
    );
    list.hidden = !found.length;
    if (field.hasAttribute("aria-expanded")) field.setAttribute("aria-expanded", String(found.length > 0));
    mark(field, list, 0);
  }

  function mark(field, list, number) {
    const items = [...list.children];
    const at = items.length ? (number + items.length) % items.length : -1;
    items.forEach((item, index) => item.setAttribute("aria-selected", String(index === at)));
    if (at >= 0) {
      field.setAttribute("aria-activedescendant", items[at].id);
      items[at].scrollIntoView({ block: "nearest" });
    } else {
      field.removeAttribute("aria-activedescendant");
    }
    list.dataset.marked = at;
  }

  const marked = (list) => Number(list.dataset.marked ?? -1);

  // --- the palette ---------------------------------------------------------------------------------------------------

  let shown = [];

  async function look() {
    const { commands, projects } = await offer();
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [
      ...[...document.querySelectorAll("header nav a")].map((link) => ({
        shown: link.textContent,
        told: "page",
        go: link.href,
      })),
      ...projects.map((name) => ({ shown: name, told: "conversation", go: `/chat/${name}` })),
      ...projects.map((name) => ({ shown: `about ${name}`, told: "page", go: `/project/${name}` })),
      ...commands.map((one) => ({ shown: one.usage, told: one.summary, says: one.takes ? `${one.says} ` : one.says })),
    ];
    const score = (one) => (one.shown.toLowerCase().startsWith(words.join(" ")) ? 0 : 1);
    shown = all
      .filter((one) => words.every((word) => `${one.shown} ${one.told}`.toLowerCase().includes(word)))
      .sort((one, other) => score(one) - score(other))
      .slice(0, 60);
    options(search, list, shown, choose);
  }

  function choose(one) {
    dialog.close();
    if (one.go) {
      location.assign(one.go);
      return;
    }
    const text = document.getElementById("text");
    if (!text) {
      sessionStorage.setItem("say", one.says);
      const project = document.querySelector("[data-project]");
      location.assign(`/chat/${project ? project.dataset.project : "all"}`);
      return;
    }
    write(text, one.says);
  }

  function write(text, said) {
    text.value = said;
    text.focus();
    text.setSelectionRange(said.length, said.length);
    text.dispatchEvent(new Event("input", { bubbles: true }));
  }

  function open() {
    if (dialog.open) return;
    offered = null; // projects come and go
    search.value = "";
    dialog.showModal();
    look();
  }

  document.getElementById("open-palette").addEventListener("click", open);
  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      open();
    }
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  search.addEventListener("input", look);
  search.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      mark(search, list, marked(list) + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      if (shown[marked(list)]) choose(shown[marked(list)]);
    }
  });

  // --- while a message is written ------------------------------------------------------------------------------------

  const text = document.getElementById("text");
  if (!text) return;
  const completions = document.getElementById("completions");
  let found = [];

  async function complete() {
    const said = text.value.replace(/^\//, "").toLowerCase();
    found = [];
    if (said.trim() && !said.includes("\n")) {
      const { commands, projects } = await offer();
      for (const one of commands) {
        if (one.says.startsWith(said) && one.says !== said) {
          found.push({ shown: one.usage, told: one.summary, says: one.takes ? `${one.says} ` : one.says });
        } else if (one.takes === "project" && said.startsWith(`${one.says} `)) {
          const begun = said.slice(one.says.length + 1);
          for (const name of projects.filter((name) => name.startsWith(begun) && name !== begun)) {
            found.push({ shown: `${one.says} ${name}`, told: "", says: `${one.says} ${name}` });
          }
        }
      }
    }
    found = found.slice(0, 6);
    options(text, completions, found, (one) => write(text, one.says));
  }

  text.addEventListener("input", complete);
  text.addEventListener("blur", () => options(text, completions, (found = []), () => {}));
  text.addEventListener("keydown", (event) => {
    if (!found.length || event.isComposing) return;
    if (event.key === "Tab" && !event.shiftKey) {
      event.preventDefault();
      write(text, found[marked(completions)].says);
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      mark(text, completions, marked(completions) + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Escape") {
      options(text, completions, (found = []), () => {});
    } else if (event.key === "Enter") {
      options(text, completions, (found = []), () => {}); // it is sent as it is
    }
  });

  const begun = sessionStorage.getItem("say");
  if (begun) {
    sessionStorage.removeItem("say");
    write(text, begun);
  }
})();
