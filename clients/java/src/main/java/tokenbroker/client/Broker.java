package tokenbroker.client;

import io.grpc.ManagedChannel;
import io.grpc.stub.ClientResponseObserver;
import io.grpc.stub.StreamObserver;
import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;
import tokenbroker.v1.GetTokenRequest;
import tokenbroker.v1.GetTokenResponse;
import tokenbroker.v1.ReportRejectedTokenRequest;
import tokenbroker.v1.ReportRejectedTokenResponse;
import tokenbroker.v1.TokenBrokerGrpc;
import tokenbroker.v1.TokenBrokerGrpc.TokenBrokerStub;
import tokenbroker.v1.WatchTokensRequest;
import tokenbroker.v1.WatchTokensResponse;
import tokenbroker.v1.WatchTokensSubscribe;
import tokenbroker.v1.WatchTokensUnsubscribe;

/** The broker's API as this client uses it, for the installs of one app. */
final class Broker implements AutoCloseable {
    private final Channels channels;
    private final String pluginId;
    private final Duration timeout;
    private final NanoClock clock;

    Broker(Channels channels, String pluginId, Duration timeout, NanoClock clock) {
        this.channels = channels;
        this.pluginId = pluginId;
        this.timeout = timeout;
        this.clock = clock;
    }

    CompletableFuture<Token> getToken(String installId) {
        var request = GetTokenRequest.newBuilder()
                .setPluginId(pluginId)
                .setInstallId(installId)
                .build();
        var call = new UnaryCall<GetTokenResponse, Token>(answer -> token(answer, installId));
        channels.begin(channel -> inTime(channel).getToken(request, call));
        return call.answer;
    }

    /** Whether the report took the generation out of use. */
    CompletableFuture<Boolean> reportRejected(String installId, long generation) {
        var request = ReportRejectedTokenRequest.newBuilder()
                .setPluginId(pluginId)
                .setInstallId(installId)
                .setGeneration(generation)
                .build();
        var call = new UnaryCall<ReportRejectedTokenResponse, Boolean>(ReportRejectedTokenResponse::getInvalidated);
        channels.begin(channel -> inTime(channel).reportRejectedToken(request, call));
        return call.answer;
    }

    void watch(ClientResponseObserver<WatchTokensRequest, WatchTokensResponse> stream) {
        channels.begin(channel -> TokenBrokerGrpc.newStub(channel).watchTokens(stream));
    }

    WatchTokensRequest subscribe(String installId, long knownGeneration) {
        return WatchTokensRequest.newBuilder()
                .setSubscribe(WatchTokensSubscribe.newBuilder()
                        .setPluginId(pluginId)
                        .setInstallId(installId)
                        .setKnownGeneration(knownGeneration))
                .build();
    }

    WatchTokensRequest unsubscribe(String installId) {
        return WatchTokensRequest.newBuilder()
                .setUnsubscribe(WatchTokensUnsubscribe.newBuilder()
                        .setPluginId(pluginId)
                        .setInstallId(installId))
                .build();
    }

    /** The token as it came just now: its lifetime counts from here. */
    Token token(GetTokenResponse answer, String installId) {
        return new Token(
                answer.getAccessToken(),
                answer.getTokenType(),
                answer.getGeneration(),
                installId,
                answer.getCompanyId(),
                clock,
                clock.nanos() + NanoClock.nanosOf(Failures.duration(answer.getExpiresIn())));
    }

    @Override
    public void close() {
        channels.close();
    }

    private TokenBrokerStub inTime(ManagedChannel channel) {
        return TokenBrokerGrpc.newStub(channel).withDeadlineAfter(timeout.toNanos(), TimeUnit.NANOSECONDS);
    }

    /** One message, or a failure, as a future. */
    private static final class UnaryCall<A, V> implements StreamObserver<A> {
        private final CompletableFuture<V> answer = new CompletableFuture<>();
        private final Function<A, V> read;

        UnaryCall(Function<A, V> read) {
            this.read = read;
        }

        @Override
        public void onNext(A message) {
            answer.complete(read.apply(message));
        }

        @Override
        public void onError(Throwable failure) {
            answer.completeExceptionally(failure);
        }

        @Override
        public void onCompleted() {}
    }
}
