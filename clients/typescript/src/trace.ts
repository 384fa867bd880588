import type { Metadata } from "@grpc/grpc-js";
import { context, isSpanContextValid, trace } from "@opentelemetry/api";

/** Add the caller's trace, in the W3C's form (Trace Context, section 3). No baggage: the broker has no use for it. */
export function addTrace(metadata: Metadata): void {
  const span = trace.getSpanContext(context.active());
  if (span === undefined || !isSpanContextValid(span)) return;
  const flags = span.traceFlags.toString(16).padStart(2, "0");
  metadata.set("traceparent", `00-${span.traceId}-${span.spanId}-${flags}`);
  const state = span.traceState?.serialize();
  if (state) metadata.set("tracestate", state);
}
