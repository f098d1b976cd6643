import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { Decision } from "./gen/quetra/v1/decision_pb.js";
import { EvaluateService } from "./gen/quetra/v1/evaluate_service_pb.js";

/** Sends the key with every call. */
export const authorize = (key) => (next) => (request) => {
  request.header.set("authorization", `Bearer ${key}`);
  return next(request);
};

/** A client of the server at `baseUrl`, for example `https://quetra.example.com`. */
export function evaluateClient(baseUrl, key) {
  return createClient(
    EvaluateService,
    createGrpcWebTransport({ baseUrl, interceptors: [authorize(key)] }),
  );
}

/** Asks for one spend. Only `approved: true` is a yes; amounts are whole minor units, as bigint. */
export async function evaluate(client, spend) {
  try {
    const answer = await client.evaluate(spend);
    return {
      approved: answer.decision === Decision.APPROVED,
      decision: Decision[answer.decision],
      failed: answer.ruleResults.filter((rule) => !rule.passed).map((rule) => rule.detail),
      remaining: answer.budget?.remaining,
    };
  } catch (reason) {
    const error = ConnectError.from(reason);
    const [info] = error.findDetails(ErrorInfoSchema);
    const [request] = error.findDetails(BadRequestSchema);
    return {
      approved: false,
      code: Code[error.code],
      reason: info?.reason,
      message: error.rawMessage,
      fields: request?.fieldViolations.map(({ field, description }) => ({ field, description })),
    };
  }
}
