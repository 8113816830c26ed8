// A daemon on the emulated arm, and its page on a port of this computer only.

import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import readline from "node:readline";
import tls from "node:tls";

const REGOAL = "target/release/regoal";

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Looks until it is so. */
export async function until(what, look, seconds = 15) {
  for (let tries = 0; tries < seconds * 20; tries++) {
    const found = await look();
    if (found) return found;
    await sleep(50);
  }
  throw new Error(`never seen: ${what}`);
}

/** A robot for a computer that is busy with drawing the page: its ticks may be late. */
function configuration() {
  const demonstrations = realpathSync("models/reach/demonstrations");
  return readFileSync("firmware-config/emulated.toml", "utf8")
    .replace(/\[safety\]\nheartbeat_s.*\n\n\[control\]\n/, `[safety]
heartbeat_s = 5.0
max_tracking_error = 0.5
tracking_time_s = 60.0
stall_time_s = 60.0

[finetune]
steps = 400
goals = 10
demonstrations = ["${demonstrations}"]

[control]
hold_after_ticks = 100
fault_after_ticks = 1000
`);
}

/** What Chromium knows a certificate by. */
const keyOf = (address) => new Promise((found, failed) => {
  const [host, port] = address.split(":");
  const socket = tls.connect({ host, port, rejectUnauthorized: false }, () => {
    const key = socket.getPeerX509Certificate().publicKey.export({ type: "spki", format: "der" });
    socket.destroy();
    found(createHash("sha256").update(key).digest("base64"));
  });
  socket.on("error", failed);
});

/** Starts both; `stop` ends them. */
export async function start() {
  const folder = mkdtempSync(join(tmpdir(), "regoal-page-"));
  const inside = (name) => join(folder, name);
  const socket = inside("api.sock");
  writeFileSync(inside("robot.toml"), configuration());
  const regoal = (...words) => execFileSync(REGOAL, words, { encoding: "utf8" });
  // One policy before the one in use, so that there is a way back.
  const base = "models/reach/policy.onnx";
  regoal("finetune", "--policy", base, "--episodes", "models/reach/demonstrations", "--steps", "20",
    "--out", inside("before"));
  for (const file of [join(inside("before"), "policy.onnx"), base]) {
    regoal("policy", "install", file, "--commit", "--robot", inside("robot.toml"), "--store", inside("store"));
  }
  const daemon = spawn(REGOAL, [
    "run", "--robot", inside("robot.toml"), "--episodes", inside("episodes"), "--socket", socket,
    "--store", inside("store"), "--access", inside("access"), "--listen", "127.0.0.1:0",
  ], { stdio: ["ignore", "pipe", "inherit"] });
  process.once("exit", () => daemon.kill("SIGTERM"));
  let address;
  let ready = false;
  readline.createInterface({ input: daemon.stdout }).on("line", (line) => {
    console.log(`  ${line}`);
    address ??= /clients with a key at (\S+)/.exec(line)?.[1];
    ready ||= line.startsWith("disarmed");
  });
  await until("the daemon", () => address && ready, 60);
  const connections = new Set();
  // The daemon's API is on a Unix socket: what comes to the port goes on to it.
  const proxy = net.createServer((client) => {
    const robot = net.connect(socket);
    for (const end of [client, robot]) {
      connections.add(end);
      end.on("error", () => { client.destroy(); robot.destroy(); });
      end.on("close", () => { connections.delete(end); client.destroy(); robot.destroy(); });
    }
    client.pipe(robot).pipe(client);
  });
  await new Promise((listening) => proxy.listen(0, "127.0.0.1", listening));
  const url = `http://127.0.0.1:${proxy.address().port}`;
  return {
    url,
    /** Where other computers find it, and what its certificate's key is known by. */
    address,
    key: await keyOf(address),
    /** A link to the page for a tablet of its own. */
    link: (name, role) => JSON.parse(
      regoal("pair", "--page", "--name", name, "--role", role, "--socket", socket, "--json")).page,
    ask: (method, path, body) => fetch(url + path, { method, body: body && JSON.stringify(body) }).then((r) => r.json()),
    /** Nothing goes through any more, as when a tablet leaves the room. */
    cut: () => {
      proxy.close();
      connections.forEach((connection) => connection.destroy());
    },
    stop: async () => {
      proxy.close();
      connections.forEach((connection) => connection.destroy());
      const ended = new Promise((done) => daemon.once("exit", done));
      daemon.kill("SIGTERM");
      await ended;
      rmSync(folder, { recursive: true });
    },
  };
}
