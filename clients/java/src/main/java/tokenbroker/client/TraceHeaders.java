package tokenbroker.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.Context;

/** Writes the trace of whoever begins a call on it: traceparent and tracestate. Without an SDK there is none. */
final class TraceHeaders implements ClientInterceptor {
    @Override
    public <Q, A> ClientCall<Q, A> interceptCall(MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
        return new SimpleForwardingClientCall<>(next.newCall(method, options)) {
            @Override
            public void start(Listener<A> listener, Metadata headers) {
                W3CTraceContextPropagator.getInstance().inject(Context.current(), headers, TraceHeaders::replace);
                super.start(listener, headers);
            }
        };
    }

    private static void replace(Metadata headers, String name, String value) {
        var key = Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
        headers.discardAll(key);
        headers.put(key, value);
    }
}
