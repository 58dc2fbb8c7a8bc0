// One service of npm's `emulate`, on loopback:  node emulate.mjs PACKAGE OPTIONS
//
// PACKAGE is the folder of `emulate`. OPTIONS is JSON: `service`, `baseUrl` and `seed`, as createEmulator takes them; and
// `events`, an address that hears of all that happens in Slack. It prints its port once it listens.

import { readdirSync, readFileSync } from "node:fs";
import { Server } from "node:net";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, told] = process.argv.slice(2);
const { events, ...options } = JSON.parse(told);
const part = (name) => import(pathToFileURL(join(folder, "dist", name)));

// It would listen on every interface, and has no option for that.
const listen = Server.prototype.listen;
Server.prototype.listen = function () {
  this.once("listening", () => console.log(this.address().port));
  return listen.call(this, 0, "127.0.0.1");
};

if (events) {
  // Its Slack has events, and no way to subscribe to them: neither an option nor a route. So somebody has to look over
  // its shoulder when it sets Slack up.
  const holdsSlack = (name) => /^dist-\w+\.js$/.test(name) && text(name).includes("\n  slackPlugin\n");
  const text = (name) => readFileSync(join(folder, "dist", name), "utf8");
  const { slackPlugin } = await part(readdirSync(join(folder, "dist")).find(holdsSlack));
  const { register } = slackPlugin;
  slackPlugin.register = (app, store, webhooks, ...others) => {
    webhooks.register({ url: events, events: ["*"], active: true, owner: "slack" });
    return register(app, store, webhooks, ...others);
  };
}

const { createEmulator } = await part("api.js");
await createEmulator(options);
