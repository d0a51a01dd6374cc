// What Home Assistant switches, over its REST API.

import { Machine, baseline, conflict, ensure, fail, inverse, invalid, pause } from "runbook-sdk";

export const plugin = { actions: { switched: { converge, verify } } };

function converge({ url, token, entity, state, settle }) {
  const house = new House(Machine.target("host"), url, token);
  const { state: found, attributes } = house.look(entity);
  if (found === "unavailable" || found === "unknown")
    conflict(`Home Assistant does not reach ${entity}: it is ${found}`);
  // As it was before this run, also where an attempt before this one switched it.
  const was = baseline("was", found);
  // In a plan nothing was switched, so there is nothing to wait for.
  if (found !== state && house.switch(entity, state).state === "done") house.wait(entity, state, settle);
  return { name: attributes?.friendly_name ?? entity, was };
}

/** Plugs fall back when their load is too much. */
function verify({ url, token, entity, state }) {
  const { state: found } = new House(Machine.target("host"), url, token).look(entity);
  return found === state ? [] : [`${entity} was switched ${state}, and is ${found}`];
}

class House {
  constructor(machine, url, token) {
    this.machine = machine;
    this.url = url;
    this.authorization = ["Bearer ", token];
  }

  /** What is known of an entity. */
  look(entity) {
    const headers = { authorization: this.authorization };
    const answer = this.machine.http(`${this.url}/api/states/${entity}`, { headers });
    if (answer.status === 401)
      invalid("Home Assistant does not take the token: make a new one on the profile page of a user");
    if (answer.status === 404)
      invalid(`Home Assistant knows no ${entity}: Settings, Devices, Entities lists what there is`);
    ensure(answer.status === 200, `${answer.said}: status ${answer.status}`);
    return answer.json();
  }

  switch(entity, state) {
    const service = (to) => `${this.url}/api/services/homeassistant/turn_${to}`;
    const body = JSON.stringify({ entity_id: entity });
    // curl reads the header from a file that is there only while it runs: no argument may hold a secret.
    const back = this.machine.cmd(
      [
        "curl",
        "--fail",
        "--silent",
        "--show-error",
        "--max-time",
        "30",
        "--header",
        "@{auth}",
        "--json",
        body,
        service(state === "on" ? "off" : "on"),
      ],
      { files: { auth: ["Authorization: ", this.authorization] }, timeout: 60 },
    );
    const headers = { authorization: this.authorization, "content-type": "application/json" };
    return this.machine.httpChange(`switch ${entity} ${state}`, service(state), {
      headers,
      body,
      undo: inverse(back),
      alters: [`homeassistant:${entity}`],
    });
  }

  /** A plug tells of its new state when it has got around to it. */
  wait(entity, state, seconds) {
    for (let waited = 0; this.look(entity).state !== state; waited++) {
      if (waited >= seconds) fail(`${entity} was told to be ${state}, and is not after ${seconds} s`);
      pause(1);
    }
  }
}
