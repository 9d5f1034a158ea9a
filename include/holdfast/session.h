/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names and numbers of the agent–portal protocol that are not in the .proto files.
 *
 * Connection: GET HF_OPAMP_PATH with `Upgrade: websocket`; an enrolled endpoint is known by its
 * client certificate (subject CN = endpoint id), a new one by `Authorization: Bearer <token>`. A
 * refusal is an HTTP status with the headers HF_HEADER_CAUSE (a name of holdfast/cause.h) and,
 * where waiting helps, Retry-After (seconds).
 *
 * Enrolment: the first AgentToServer of a connection with a token carries Hello and
 * connection_settings_request.opamp.certificate_request.csr (PEM, P-256). The portal answers with
 * connection_settings.opamp.certificate {cert: PEM leaf, ca_cert: PEM of the client CA}; the agent
 * stores both durably and dials again with the certificate. Asking again with the same public key
 * (an answer got lost) returns the same endpoint and does not use the token again.
 *
 * Framing: one binary WebSocket message = varint header 0 (one zero byte) + protobuf
 * (OpAMP specification, "WebSocket Message Format").
 */
#pragma once

#define HF_OPAMP_PATH       "/v1/opamp"
#define HF_OPAMP_PORT       4320
#define HF_HEADER_CAUSE     "Holdfast-Cause"
#define HF_MESSAGE_MAX      (1u << 20) /* either direction; more closes 1009 */
#define HF_ENROLL_TOKEN_MAX 128u

#define HF_CAP_SESSION      "io.holdfast.session/1"
#define HF_CAP_TELEMETRY    "io.holdfast.telemetry/1"
#define HF_CAP_OUTAGE       "io.holdfast.outage/1"
#define HF_CAP_ACTION       "io.holdfast.action/1"

/* CustomMessage.type */
#define HF_MSG_HELLO         "hello"         /* session.Hello */
#define HF_MSG_WELCOME       "welcome"       /* session.Welcome */
#define HF_MSG_HEARTBEAT     "heartbeat"     /* session.Heartbeat */
#define HF_MSG_HEARTBEAT_ACK "heartbeat_ack" /* session.HeartbeatAck */
#define HF_MSG_GOODBYE       "goodbye"       /* session.Goodbye */
#define HF_MSG_HOLD          "hold"          /* session.Hold */
#define HF_MSG_BATCH         "batch"         /* session.TelemetryBatch */
#define HF_MSG_TELEMETRY_ACK "ack"           /* session.TelemetryAck */
#define HF_MSG_OUTAGE        "outage"        /* bus.Outage */
#define HF_MSG_OUTAGE_ACK    "outage_ack"    /* session.OutageAck */

/* Of HF_CAP_ACTION, messages of action.proto. */
#define HF_MSG_ACTION       "action"       /* action.Deliver */
#define HF_MSG_CANCEL       "cancel"       /* action.Cancel */
#define HF_MSG_STATE        "state"        /* action.State */
#define HF_MSG_RESULT       "result"       /* action.Result */
#define HF_MSG_RESULT_ACK   "result_ack"   /* action.ResultAck */
#define HF_MSG_ARTIFACT     "artifact"     /* action.Artifact */
#define HF_MSG_ARTIFACT_ACK "artifact_ack" /* action.ArtifactAck */
#define HF_MSG_TIME_ASK     "time_ask"     /* action.TimeAsk */
#define HF_MSG_TIME         "time"         /* action.Time */
#define HF_MSG_KEYS         "keys"         /* action.Keys */
