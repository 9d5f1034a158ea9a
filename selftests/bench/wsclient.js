// SPDX-License-Identifier: Apache-2.0
// A plain WebSocket client with the library's defaults, which dials again at once when it is told
// that the connection is gone. One line per event: {"t": unix ns, "event": "open" | "close"}.
//
//   node wsclient.js URL CA_FILE TOKEN PING_MS
//
// It is an OpAMP agent just so far that the portal registers it (one first message); PING_MS > 0
// sends WebSocket pings, so that there is something to be lost.
"use strict";

const fs = require("fs");
const WebSocket = require("ws");

const [url, caFile, token, pingMs] = process.argv.slice(2);
const ca = fs.readFileSync(caFile);
const uid = require("crypto").randomBytes(16);
let pings = null;

function tell(event) {
  const t = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n;
  process.stdout.write(`{"t":${t},"event":"${event}","pid":${process.pid}}\n`);
}

function dial() {
  const ws = new WebSocket(url, { ca, headers: { Authorization: `Bearer ${token}` } });
  let opened = false;

  ws.on("open", () => {
    // Header 0, instance_uid, sequence_num 1, capabilities "reports status".
    ws.send(Buffer.concat([Buffer.from([0, 0x0a, 16]), uid, Buffer.from([0x10, 1, 0x20, 1])]));
    if (Number(pingMs) > 0) pings = setInterval(() => ws.ping(), Number(pingMs));
  });
  ws.on("message", () => {
    if (!opened) tell("open");
    opened = true;
  });
  ws.on("error", () => {});
  ws.on("close", () => {
    clearInterval(pings);
    if (opened) tell("close");
    setTimeout(dial, opened ? 0 : 100);
  });
}

dial();
