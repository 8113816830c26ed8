// What this page's key allows: buttons that it may not use are switched off, and the reason stands beside.

import * as api from "./api.js";

const ROLES = ["observe", "goal", "deploy", "admin"];
let own = null;

/** Whether the page may do what needs this role. */
export const may = (role) => ROLES.indexOf(own) >= ROLES.indexOf(role);

/** Asks what the page may, and says what it may not. */
export async function learnRole() {
  const { role } = await api.caller();
  if (role === own) return;
  own = role;
  for (const reason of document.querySelectorAll("[data-needs]")) {
    const { needs } = reason.dataset;
    reason.hidden = may(needs);
    reason.textContent = `This needs the role ${needs}; this page has ${own}. On the robot, regoal pair `
      + `--page --role ${needs} --name NAME shows a link with it.`;
  }
  for (const button of document.querySelectorAll("[data-verdict]")) button.disabled = !may("goal");
}
