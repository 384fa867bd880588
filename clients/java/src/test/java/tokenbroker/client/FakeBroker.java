package tokenbroker.client;

import com.google.protobuf.Any;
import com.google.protobuf.Duration;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerCredentials;
import io.grpc.ServerInterceptor;
import io.grpc.ServerInterceptors;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import io.grpc.protobuf.StatusProto;
import io.grpc.protobuf.services.HealthStatusManager;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicInteger;
import javax.net.ssl.SSLPeerUnverifiedException;
import tokenbroker.v1.GetTokenRequest;
import tokenbroker.v1.GetTokenResponse;
import tokenbroker.v1.ReportRejectedTokenRequest;
import tokenbroker.v1.ReportRejectedTokenResponse;
import tokenbroker.v1.TokenBrokerGrpc;
import tokenbroker.v1.WatchTokensRequest;
import tokenbroker.v1.WatchTokensResponse;

/** A broker on a real socket that answers as a test tells it to. */
final class FakeBroker extends TokenBrokerGrpc.TokenBrokerImplBase implements ServerInterceptor, AutoCloseable {
    /** What a test answers a GetToken with. */
    @FunctionalInterface
    interface Answering {
        void answer(GetTokenRequest request, StreamObserver<GetTokenResponse> answers);
    }

    /** One WatchTokens: what the client said on it, and where to answer. */
    record Watching(BlockingQueue<WatchTokensRequest> said, StreamObserver<WatchTokensResponse> answers) {}

    final AtomicInteger calls = new AtomicInteger();
    final AtomicInteger reports = new AtomicInteger();
    final BlockingQueue<Metadata> headers = new LinkedBlockingQueue<>();
    final BlockingQueue<String> peers = new LinkedBlockingQueue<>();
    final BlockingQueue<Watching> watchings = new LinkedBlockingQueue<>();
    volatile Answering answering = answersWith(1, 3600);
    volatile RuntimeException reportFailure;

    private final HealthStatusManager health = new HealthStatusManager();
    private final Server server;
    private final String target;

    FakeBroker() throws IOException {
        this(InsecureServerCredentials.create());
    }

    FakeBroker(ServerCredentials credentials) throws IOException {
        server = Grpc.newServerBuilderForPort(0, credentials)
                .addService(ServerInterceptors.intercept(this, this))
                .addService(health.getHealthService())
                .build()
                .start();
        target = "127.0.0.1:" + server.getPort();
        serving(true);
    }

    String target() {
        return target;
    }

    /** What it says of its health. It serves all the same. */
    void serving(boolean serving) {
        health.setStatus("tokenbroker.v1.TokenBroker", serving ? ServingStatus.SERVING : ServingStatus.NOT_SERVING);
    }

    static Answering answersWith(long generation, long expiresInSeconds) {
        return (request, answers) -> {
            answers.onNext(token(request.getInstallId(), generation, expiresInSeconds));
            answers.onCompleted();
        };
    }

    static Answering fails(RuntimeException failure) {
        return (request, answers) -> answers.onError(failure);
    }

    static GetTokenResponse token(String installId, long generation, long expiresInSeconds) {
        return GetTokenResponse.newBuilder()
                .setAccessToken(secret(generation))
                .setTokenType("Bearer")
                .setGeneration(generation)
                .setExpiresIn(Duration.newBuilder().setSeconds(expiresInSeconds))
                .setInstallId(installId)
                .setCompanyId("100000")
                .build();
    }

    static String secret(long generation) {
        return "secret-of-generation-" + generation;
    }

    /** A status as the broker sends it: with ErrorInfo, and with RetryInfo if there is a delay. */
    static StatusRuntimeException status(io.grpc.Status.Code code, String domain, String reason, long retrySeconds) {
        var status = Status.newBuilder()
                .setCode(code.value())
                .setMessage("said the broker")
                .addDetails(Any.pack(ErrorInfo.newBuilder()
                        .setDomain(domain)
                        .setReason(reason)
                        .build()));
        if (retrySeconds > 0) {
            status.addDetails(Any.pack(RetryInfo.newBuilder()
                    .setRetryDelay(Duration.newBuilder().setSeconds(retrySeconds))
                    .build()));
        }
        return StatusProto.toStatusRuntimeException(status.build());
    }

    static StatusRuntimeException status(io.grpc.Status.Code code, Reason reason) {
        return status(code, "tokenbroker.v1", reason.name(), 0);
    }

    @Override
    public void getToken(GetTokenRequest request, StreamObserver<GetTokenResponse> answers) {
        calls.incrementAndGet();
        answering.answer(request, answers);
    }

    @Override
    public void reportRejectedToken(
            ReportRejectedTokenRequest request, StreamObserver<ReportRejectedTokenResponse> answers) {
        reports.incrementAndGet();
        if (reportFailure != null) {
            answers.onError(reportFailure);
            return;
        }
        answers.onNext(
                ReportRejectedTokenResponse.newBuilder().setInvalidated(true).build());
        answers.onCompleted();
    }

    @Override
    public StreamObserver<WatchTokensRequest> watchTokens(StreamObserver<WatchTokensResponse> answers) {
        var watching = new Watching(new LinkedBlockingQueue<>(), answers);
        watchings.add(watching);
        return new StreamObserver<>() {
            @Override
            public void onNext(WatchTokensRequest said) {
                watching.said.add(said);
            }

            @Override
            public void onError(Throwable cancelled) {}

            @Override
            public void onCompleted() {}
        };
    }

    @Override
    public <Q, A> ServerCall.Listener<Q> interceptCall(
            ServerCall<Q, A> call, Metadata received, ServerCallHandler<Q, A> next) {
        headers.add(received);
        peers.add(peerOf(call));
        return next.startCall(call, received);
    }

    /** The name in the certificate that the caller showed; empty if it showed none. */
    private static String peerOf(ServerCall<?, ?> call) {
        var session = call.getAttributes().get(Grpc.TRANSPORT_ATTR_SSL_SESSION);
        try {
            return session == null ? "" : session.getPeerPrincipal().getName();
        } catch (SSLPeerUnverifiedException none) {
            return "";
        }
    }

    @Override
    public void close() {
        server.shutdownNow();
    }
}
