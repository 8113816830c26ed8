// The emergency stop: loaded before everything else, depends on nothing else.
"use strict";
(() => {
  const RETRY_MS = 100;
  let confirmed = 0;
  let presses = 0;

  function say(state, text) {
    document.documentElement.dataset.estop = state;
    const says = document.getElementById("estop-says");
    if (says) says.textContent = text;
  }

  async function send() {
    const reply = await fetch("/v1/estop", {
      method: "POST", keepalive: true, cache: "no-store", signal: AbortSignal.timeout(1000),
    });
    return reply.ok;
  }

  // Each press sends at once, and goes on until one that is as new was confirmed.
  async function stop() {
    const press = ++presses;
    say("sending", "Stopping…");
    while (confirmed < press) {
      if (await send().catch(() => false)) {
        confirmed = Math.max(confirmed, press);
      } else if (confirmed < press) {
        say("failed", "NOT CONFIRMED: cut the arm's power. Trying again…");
        await new Promise((done) => setTimeout(done, RETRY_MS));
      }
    }
    if (press === presses) {
      say("done", "Stopped");
      setTimeout(() => press === presses && say("", "Space or Esc: e-stop"), 4000);
    }
  }

  const onButton = (event) => event.target.closest?.("#estop");
  const isText = (target) => target.matches?.("textarea, input[type=text]");
  let touched = -Infinity;
  // A finger down is enough; a click without one is the keyboard's or a screen reader's.
  document.addEventListener("pointerdown", (event) => {
    if (onButton(event)) {
      touched = event.timeStamp;
      stop();
    }
  }, true);
  document.addEventListener("click", (event) => {
    if (onButton(event) && event.timeStamp - touched > 1000) stop();
  }, true);
  for (const kind of ["keydown", "keyup"]) {
    document.addEventListener(kind, (event) => {
      const stops = event.key === "Escape" || (event.key === " " && !isText(event.target));
      if (!stops) return;
      event.preventDefault();
      event.stopPropagation();
      if (kind === "keydown" && !event.repeat) stop();
    }, true);
  }
})();
