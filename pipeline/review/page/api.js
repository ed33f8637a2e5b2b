// The server's answers. A fault becomes an error with one line; a server that is gone, a notice.

import { clearNotice, notice } from "./dom.js";

export class ApiError extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

async function answered(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    notice("gone", "The server does not answer. All but the stroke under way is kept: call the same "
      + "command again, and open the address that it prints.", false);
    throw new ApiError("the server does not answer", 0);
  }
  if (response.status === 403 || response.status === 421) {
    notice("gone", "The server was started again: open the address that it printed.", false);
    throw new ApiError("the server was started again", response.status);
  }
  clearNotice("gone");
  if (!response.ok) {
    const fault = await response.json().catch(() => ({ error: `the server answers ${response.status}` }));
    throw new ApiError(fault.error, response.status);
  }
  return response;
}

export const get = async (path) => (await answered(path)).json();

export const getBytes = async (path) => (await answered(path)).arrayBuffer();

export const post = async (path, body = {}) => (await answered(path, {
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
})).json();
