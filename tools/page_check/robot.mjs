// A daemon on the emulated arm, and its page on a port of this computer only.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

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

/** Starts both; `stop` ends them. */
export async function start() {
  const folder = mkdtempSync(join(tmpdir(), "regoal-page-"));
  const socket = join(folder, "api.sock");
  // Slow, so that a computer that also draws the page keeps up with a debug build.
  const config = join(folder, "robot.toml");
  writeFileSync(config, readFileSync("firmware-config/emulated.toml", "utf8").replace("rate_hz = 100.0", "rate_hz = 25.0"));
  const daemon = spawn("target/debug/regoal", [
    "run", "--robot", config, "--episodes", join(folder, "episodes"), "--socket", socket,
  ], { stdio: ["ignore", "inherit", "inherit"] });
  await until("the daemon's socket", () => existsSync(socket), 30);
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
