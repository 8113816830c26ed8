// The daemon's API: requests, WebSockets, and the lease that this page holds while somebody steers.

export class Refusal extends Error {
  constructor({ error, code }) {
    super(error);
    this.code = code;
  }
}

let lease = null;
const leased = (path) => (lease === null ? path : `${path}?lease=${lease}`);

async function ask(method, path, body) {
  const request = { method, cache: "no-store", signal: AbortSignal.timeout(10000) };
  if (body !== undefined) {
    request.body = JSON.stringify(body);
    request.headers = { "content-type": "application/json" };
  }
  const reply = await fetch(path, request).catch(() => {
    throw new Refusal({ error: "the robot does not answer", code: "no_answer" });
  });
  const said = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Refusal({ code: "other", error: `status ${reply.status}`, ...said });
  return said;
}

const get = (path) => ask("GET", path);
const post = (path, body) => ask("POST", path, body);

export const status = () => get("/v1/status");
export const geometry = () => get("/v1/geometry");
export const holder = () => get("/v1/lease");
export const arm = () => post(leased("/v1/arm"));
export const disarm = () => post(leased("/v1/disarm"));
export const stop = () => post("/v1/stop");
export const letGo = () => post(leased("/v1/letgo"));
export const reach = (goal) => post(leased("/v1/goal"), goal);
export const goal = (id) => get(`/v1/goal/${id}`);
export const demonstrate = () => post(leased("/v1/demonstration"));
export const conclude = (outcome) => post(leased("/v1/demonstration/end"), { outcome });
export const episodes = (count) => get(`/v1/episodes?count=${count}`);
export const episode = (id) => get(`/v1/episodes/${id}?points=400`);
export const caller = () => get("/v1/caller");
export const jobs = () => get("/v1/jobs");
export const job = (id) => get(`/v1/jobs/${id}`);
export const startJob = (order) => post("/v1/jobs", order);
export const cancelJob = (id) => post(`/v1/jobs/${id}/cancel`);
export const resumeJob = (id) => post(`/v1/jobs/${id}/resume`);
export const policies = () => get("/v1/policies");
export const rollBack = (why) => post("/v1/policies/rollback", { why });
export const label = (id, outcome) => post(`/v1/episodes/${id}/label`, { outcome });

export const holdsLease = () => lease !== null;

/** Asks for the arm, or to go on holding it. */
export async function takeLease(seconds) {
  const mine = await post("/v1/lease", { holder: "the page", seconds, lease }).catch((refusal) => {
    lease = null;
    throw refusal;
  });
  lease = mine.lease;
}

export async function releaseLease() {
  const path = leased("/v1/lease");
  lease = null;
  await ask("DELETE", path).catch(() => {}); // It ends by itself.
}

function socket(path) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return new WebSocket(url);
}

/** A pad's WebSocket, under the lease that is held. */
export const steer = () => socket(leased("/v1/steer"));

/** Tells of every message, for ever; `onState` of each beginning and end. */
export function telemetry(onMessage, onState) {
  const open = socket("/v1/telemetry?rate=20");
  // A connection that is cut in the air says nothing: it is closed here when nothing comes.
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(lost, 1000);
  };
  const lost = () => {
    clearTimeout(timer);
    open.onmessage = open.onclose = null;
    open.close();
    onState(false);
    setTimeout(() => telemetry(onMessage, onState), 500);
  };
  heard();
  open.onopen = () => onState(true);
  open.onclose = lost;
  open.onmessage = (event) => {
    heard();
    onMessage(JSON.parse(event.data));
  };
}
