// What a user does with the page, step by step, against the emulated arm. The first thing that is not
// as it should be ends it.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { setPriority } from "node:os";
import { join } from "node:path";
import { start, sleep, until } from "./robot.mjs";

const { chromium } = createRequire(`${process.env.NODE_MODULES}/`)("playwright-core");
const { PICTURES, CHROMIUM } = process.env;
const SCREENS = {
  tablet: { viewport: { width: 1024, height: 768 }, hasTouch: true },
  phone: { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 },
  desktop: { viewport: { width: 1440, height: 900 } },
};
const TABS = ["goal", "steer", "episodes", "learning", "policies", "health"];

const robot = await start();
// The browser draws without a graphics card: it must not take the arm's time.
setPriority(15);
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  // The person who opens a link compares the certificate; here nobody can.
  args: ["--no-sandbox", `--ignore-certificate-errors-spki-list=${robot.key}`],
});

/** The page on a screen; whatever it complains of ends the check. */
async function open(screen, scheme = "light", url = robot.url) {
  const context = await browser.newContext({ ...SCREENS[screen], colorScheme: scheme });
  const page = await context.newPage();
  page.on("pageerror", (error) => { throw error; });
  page.on("console", (message) => {
    // Requests that the API refuses are told there, too; the page shows them to the user.
    if (message.type() === "error" && !message.text().includes("Failed to load resource")) {
      throw new Error(message.text());
    }
  });
  page.on("request", (request) => assert(request.url().startsWith(new URL(url).origin), `asks elsewhere: ${request.url()}`));
  await page.goto(url);
  await page.waitForSelector("#mode:not([data-mode=unknown])");
  return page;
}

const picture = (page, name) => page.screenshot({ path: join(PICTURES, `${name}.png`) });
const text = (page, id) => page.locator(`#${id}`).textContent();
const mode = async (name) => until(`mode ${name}`, async () => (await robot.ask("GET", "/v1/status")).mode === name);
const tip = async () => (await robot.ask("GET", "/v1/status")).achieved_goal;
const apart = (a, b) => Math.hypot(...a.map((x, i) => x - b[i]));
const done = (what) => console.log(`ok: ${what}`);

/** Fingers on the screen: a list of places, all of those that are down. */
async function hand(page) {
  const session = await page.context().newCDPSession(page);
  const send = (type, points) => session.send("Input.dispatchTouchEvent", {
    type, touchPoints: points.map(([x, y], id) => ({ x, y, id })),
  });
  const middle = async (id, dx = 0, dy = 0) => {
    const { x, y, width, height } = await page.locator(`#${id}`).boundingBox();
    return [x + width / 2 + dx, y + height / 2 + dy];
  };
  return { down: (...points) => send("touchStart", points), move: (...points) => send("touchMove", points), up: () => send("touchEnd", []), middle };
}

async function armAndReach(page) {
  assert.equal(await text(page, "mode"), "Disarmed");
  assert(await page.locator("#go").isDisabled(), "nothing moves while disarmed");
  await page.click("#arm");
  await mode("holding");
  done("armed by a tap");
  // A tap in the picture says where; only the button moves the arm.
  const before = await tip();
  const scene = await page.locator("#scene").boundingBox();
  await page.touchscreen.tap(scene.x + scene.width * 0.62, scene.y + scene.height * 0.66);
  const place = () => page.locator("#goal-fields input[type=number]").evaluateAll((all) => all.map((one) => Number(one.value)));
  const goal = await place();
  assert.notDeepEqual(goal.slice(0, 2), [0.1, -0.2], "the tap has moved the goal");
  await sleep(300);
  assert(apart(before, await tip()) < 0.005, "a tap alone moves nothing");
  await page.locator("#goal-fields input[type=number]").nth(2).fill("0.12");
  await page.click("#go");
  await until("the goal to be reached", async () => /^Reached/.test(await text(page, "goal-says")));
  assert(apart(await tip(), [goal[0], goal[1], 0.12]) < 0.03);
  done(`a goal by a tap: ${await text(page, "goal-says")}`);
}

async function refused(page) {
  const x = page.locator("#goal-fields input[type=number]").first();
  const before = await x.inputValue();
  await x.fill("0.9");
  await page.click("#go");
  await until("a refusal", async () => /^Refused: .*out of reach/.test(await text(page, "goal-says")));
  await x.fill(before);
  done(`a goal out of reach: ${await text(page, "goal-says")}`);
}

async function emergency(page) {
  await page.locator("#goal-fields input[type=number]").nth(2).fill("0.2");
  await page.click("#go");
  await mode("reaching");
  await page.locator("#estop").dispatchEvent("pointerdown");
  await mode("faulted");
  await page.waitForSelector("#fault:not([hidden])");
  assert.match(await text(page, "fault-todo"), /press Arm/);
  await picture(page, "tablet-fault-light");
  done(`e-stop on the way: ${await text(page, "fault-what")} ${await text(page, "fault-todo")}`);
  await page.click("#arm");
  await mode("holding");
  await page.waitForSelector("#fault", { state: "hidden" });
  for (const key of ["Escape", " "]) {
    await page.locator("#tab-goal").focus();
    await page.keyboard.press(key);
    await mode("faulted");
    await page.click("#arm");
    await mode("holding");
  }
  done("e-stop by the keys Escape and space, cleared by Arm");
}

async function steer(page) {
  await page.click("#tab-steer");
  const fingers = await hand(page);
  const button = await fingers.middle("deadman");
  const before = await tip();
  await fingers.down(await fingers.middle("lift", 0, -60));
  await sleep(400);
  assert(apart(before, await tip()) < 0.005, "the pad alone moves nothing");
  await fingers.up();
  const lift = await fingers.middle("lift");
  await fingers.down(button, lift);
  await mode("teleop");
  await fingers.move(button, [lift[0], lift[1] - 60]);
  await until("the arm to rise by 2 cm", async () => (await tip())[2] - before[2] > 0.02);
  assert.equal((await robot.ask("GET", "/v1/lease")).holder, "the page");
  await picture(page, "tablet-steering-light");
  await fingers.up();
  await sleep(400);
  const released = await tip();
  await sleep(600);
  assert(apart(released, await tip()) < 0.004, "the arm holds once the button is let go");
  done(`steered ${((released[2] - before[2]) * 1000).toFixed(0)} mm up with two fingers, held when let go`);
}

async function demonstrate(page) {
  const before = (await robot.ask("GET", "/v1/episodes")).total;
  await page.click("#record");
  await page.waitForSelector("#success:not([hidden])");
  await page.locator("#tab-steer").focus();
  await page.keyboard.down("m");
  await page.keyboard.down("PageDown");
  await until("the button to be taken for held", () => page.locator("#deadman[data-steering=yes]").count());
  await sleep(700);
  await page.keyboard.up("PageDown");
  await page.keyboard.up("m");
  await page.click("#success");
  const shown = await until("the demonstration among the episodes", async () => {
    const { total, episodes } = await robot.ask("GET", "/v1/episodes");
    // It is listed from its begin on.
    const [{ source, success }] = episodes;
    return total > before && source === "demonstration" && success !== null && episodes[0];
  });
  assert.equal(shown.success, true);
  await page.click("#back");
  await mode("holding");
  done(`a demonstration by keys: ${shown.steps} steps, a success`);
}

async function lostWhileSteering() {
  const page = await open("tablet");
  await page.click("#tab-steer");
  const fingers = await hand(page);
  const lift = await fingers.middle("lift");
  await fingers.down(await fingers.middle("deadman"), lift);
  await mode("teleop");
  await fingers.move(await fingers.middle("deadman"), [lift[0], lift[1] - 60]);
  await sleep(300);
  // The tab is gone with the finger on the button.
  await page.close();
  await mode("holding");
  const left = await tip();
  await sleep(500);
  assert(apart(left, await tip()) < 0.004, "nothing moves by itself");
  done("the page is closed while it steers: the arm holds");
}

async function browse(page) {
  await page.click("#tab-episodes");
  await page.waitForSelector("#list button");
  await page.locator("#list button").last().click();
  await page.waitForSelector("#episode:not([hidden])");
  await page.click("[data-verdict=failure]");
  await until("the label", async () => /failure/.test(await text(page, "episode-title")));
  await sleep(300);
  await picture(page, "tablet-episode-light");
  done("an episode looked at and labelled");
}

/** Fine-tunings: started, seen, cancelled and resumed. */
async function learn(page) {
  await page.click("#tab-learning");
  await until("no job", async () => /No fine-tuning yet/.test(await text(page, "learning-says")));
  await page.fill("#steps", "0");
  await page.click("#learn-start");
  await until("a refusal", async () => /1 to 1,000,000/.test(await text(page, "learning-says")));
  await page.fill("#steps", "1000000");
  await page.click("#learn-start");
  await until("training", async () => /Fine-tuning 1: Trains/.test(await text(page, "job-title")), 120);
  assert(await page.locator("#learn-start").isDisabled(), "one at a time");
  await page.click("#job-cancel");
  await until("its end", async () => /Cancelled/.test(await text(page, "job-title")), 120);
  await page.click("#job-resume");
  await until("its going on", async () => /Trains/.test(await text(page, "job-title")), 120);
  await page.click("#job-cancel");
  await until("its end", async () => /Cancelled/.test(await text(page, "job-title")), 120);
  done("a fine-tuning started, cancelled, resumed and cancelled");
  await page.fill("#steps", "2000");
  await page.click("#learn-start");
  await page.waitForSelector("#loss:not([hidden])", { timeout: 120000 });
  await picture(page, "tablet-learning-at-work-light");
  await until("the verdict", async () => /2: (Passed|Refused)/.test(await text(page, "job-title")), 300);
  await sleep(300);
  await picture(page, "tablet-learning-ended-light");
  assert.match(await text(page, "job-why"), /success in the emulator|refused/);
  done(`a fine-tuning to its end: ${await text(page, "job-why")}`);
  return /Passed/.test(await text(page, "job-title"));
}

/** What passed is tried; one policy back. */
async function rollBack(page, passed) {
  await page.click("#tab-policies");
  const facts = passed ? /start 1 of its trial/ : /On trialnone/;
  await until("what there is", async () => facts.test(await text(page, "policies-facts")), 60);
  const { active, candidate, previous } = await robot.ask("GET", "/v1/policies");
  const [from, back] = candidate ? [candidate, active] : [active, previous];
  await page.click("#roll-back");
  await page.click("#roll-back-now");
  assert.match(await text(page, "policies-says"), /Say why/);
  await page.fill("#why", "it hesitates");
  await picture(page, "tablet-rollback-light");
  await page.click("#roll-back-now");
  await until("the way back", async () => /Rolled back/.test(await text(page, "policies-says")));
  const now = await robot.ask("GET", "/v1/policies");
  assert.equal(now.candidate, null);
  assert.equal(now.steering, back.policy);
  assert.equal(now.events.at(-1).policy, from.policy);
  await until("why", async () => /rolled back.*it hesitates/.test(await text(page, "events")));
  done(`a policy ${passed ? "on trial" : "in use"} is rolled back by two taps and a reason`);
}

/** Tablets with keys of their own, over TLS. */
async function roles() {
  const wall = await open("tablet", "light", robot.link("wall", "observe"));
  for (const id of ["arm", "go", "deadman", "learn-start", "roll-back"]) {
    assert(await wall.locator(`#${id}`).isDisabled(), `${id} needs more than observe`);
  }
  assert.match(await text(wall, "goal"), /needs the role goal; this page has observe/);
  await picture(wall, "tablet-observe-light");
  await wall.locator("#estop").dispatchEvent("pointerdown");
  await mode("faulted");
  await wall.context().close();
  const tablet = await open("phone", "light", robot.link("tablet", "goal"));
  await tablet.click("#arm");
  await mode("holding");
  await tablet.click("#tab-learning");
  await until("the jobs", () => tablet.locator("#jobs button").count());
  assert(await tablet.locator("#learn-start").isDisabled(), "fine-tuning needs deploy");
  await picture(tablet, "phone-goal-role-light");
  await tablet.reload();
  await tablet.waitForSelector("#mode[data-mode=holding]");
  await tablet.context().close();
  done("tablets over TLS with their own keys: one looks and stops, one gives goals");
}

async function pictures() {
  const goal = { goal: [0.12, -0.22, 0.15], timeout_s: 600, tolerance: 0.0002 };
  // The page that was closed before still holds the arm for a moment.
  await until("a goal to show", async () => (await robot.ask("POST", "/v1/goal", goal)).id);
  for (const screen of Object.keys(SCREENS)) {
    for (const scheme of ["light", "dark"]) {
      const page = await open(screen, scheme);
      await sleep(2500);
      await picture(page, `${screen}-goal-${scheme}`);
      for (const tab of TABS.slice(1)) {
        await page.click(`#tab-${tab}`);
        await sleep(400);
        await picture(page, `${screen}-${tab}-${scheme}`);
      }
      await targets(page, screen);
      await page.context().close();
    }
  }
  done(`pictures in ${PICTURES}`);
}


/** Everything that is touched is large enough, and the e-stop is in sight. */
async function targets(page, screen) {
  for (const tab of TABS) {
    await page.click(`#tab-${tab}`);
    const small = await page.evaluate(() => [...document.querySelectorAll("button, select, input:not([type=checkbox]), .check")]
      .map((one) => [one, one.getBoundingClientRect()])
      .filter(([, { width, height }]) => width > 0 && (width < 44 || height < 44))
      .map(([one]) => one.outerHTML.slice(0, 80)));
    assert.deepEqual(small, [], `${screen}: smaller than 44 px`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    assert(wide <= 0, `${screen} ${tab}: ${wide} px too wide`);
    const { x, y, width, height } = await page.locator("#estop").boundingBox();
    const { viewport } = SCREENS[screen];
    assert(x >= 0 && y >= 0 && x + width <= viewport.width && y + height <= viewport.height, "the e-stop is in sight");
  }
}

/** The e-stop works while nothing else has come yet. */
async function emergencyFirst() {
  const context = await browser.newContext(SCREENS.phone);
  const page = await context.newPage();
  await page.route("**/page/main.js", () => {});
  await page.goto(robot.url, { waitUntil: "commit" });
  await page.waitForSelector("#estop");
  await page.locator("#estop").tap();
  await mode("faulted");
  done("e-stop while the rest of the page is still on its way");
  await context.close();
}

async function offline(page) {
  robot.cut();
  await page.waitForSelector("#offline:not([hidden])");
  assert(await page.locator("#arm").isDisabled());
  await page.locator("#estop").dispatchEvent("pointerdown");
  await until("an e-stop that is not confirmed", async () => /NOT CONFIRMED/.test(await text(page, "estop-says")));
  await picture(page, "tablet-offline-light");
  done("without a connection the page says so, and that the e-stop is not confirmed");
}

try {
  const page = await open("tablet");
  await armAndReach(page);
  await refused(page);
  await emergency(page);
  await steer(page);
  await demonstrate(page);
  await browse(page);
  await rollBack(page, await learn(page));
  await roles();
  await lostWhileSteering();
  await pictures();
  await emergencyFirst();
  await offline(page);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await browser.close();
  await robot.stop();
}
