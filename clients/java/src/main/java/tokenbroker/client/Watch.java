package tokenbroker.client;

import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import java.time.Duration;
import java.util.HashSet;
import java.util.Set;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import tokenbroker.v1.GetTokenResponse;
import tokenbroker.v1.WatchTokensHeartbeat;
import tokenbroker.v1.WatchTokensRequest;
import tokenbroker.v1.WatchTokensResponse;
import tokenbroker.v1.WatchTokensUnavailable;

/**
 * Keeps one stream open on which the broker pushes new tokens of the installs that are remembered.
 *
 * <p>It only hastens what the memory would learn anyway: a broker that can't do it, or a stream that breaks, changes
 * nothing. All of its state belongs to the one thread of its timer: what others tell it, it is told there.
 */
final class Watch implements Memory.Listener, AutoCloseable {
    private static final Duration FIRST_MESSAGE_WITHIN = Duration.ofSeconds(30);
    private static final int MISSED_BEFORE_DEAD = 2;
    private static final Duration SHORTEST_PAUSE = Duration.ofMillis(50);
    private static final Duration LONGEST_PAUSE = Duration.ofSeconds(10);

    private final Broker broker;
    private final Memory memory;
    private final ScheduledThreadPoolExecutor timer;
    private Stream stream;
    private boolean opening;
    private Duration pauseAtMost = SHORTEST_PAUSE;

    Watch(Broker broker, Memory memory) {
        this.broker = broker;
        this.memory = memory;
        this.timer = new ScheduledThreadPoolExecutor(1, Watch::daemon, new ThreadPoolExecutor.DiscardPolicy());
        timer.setExecuteExistingDelayedTasksAfterShutdownPolicy(false);
        timer.setRemoveOnCancelPolicy(true);
    }

    @Override
    public void remembered(Token token) {
        timer.execute(() -> {
            if (stream != null) {
                stream.subscribe(token);
            } else if (!opening) {
                open();
            }
        });
    }

    @Override
    public void left(String installId) {
        timer.execute(() -> {
            if (stream != null) {
                stream.unsubscribe(installId);
            }
        });
    }

    @Override
    public void close() {
        timer.execute(() -> {
            if (stream != null) {
                stream.end();
            }
        });
        timer.shutdown();
    }

    private static Thread daemon(Runnable work) {
        var thread = new Thread(work, "token-broker-watch");
        thread.setDaemon(true);
        return thread;
    }

    private void open() {
        opening = false;
        stream = new Stream();
        broker.watch(stream);
        memory.known().forEach(stream::subscribe);
        stream.expectMessage(FIRST_MESSAGE_WITHIN);
    }

    /** Opens another after a pause, with full jitter: the clients of a broker that stops don't return all at once. */
    private void reopen() {
        var pauseNanos = ThreadLocalRandom.current().nextLong(pauseAtMost.toNanos());
        var doubled = pauseAtMost.multipliedBy(2);
        pauseAtMost = doubled.compareTo(LONGEST_PAUSE) < 0 ? doubled : LONGEST_PAUSE;
        stream = null;
        opening = true;
        timer.schedule(this::open, pauseNanos, TimeUnit.NANOSECONDS);
    }

    /** One stream, from its opening to its end. gRPC's threads only pass on what comes; see {@link #then}. */
    private final class Stream implements ClientResponseObserver<WatchTokensRequest, WatchTokensResponse> {
        private final Set<String> subscribed = new HashSet<>();
        private ClientCallStreamObserver<WatchTokensRequest> requests;
        private Duration silenceAllowed = FIRST_MESSAGE_WITHIN;
        private ScheduledFuture<?> alarm;

        @Override
        public void beforeStart(ClientCallStreamObserver<WatchTokensRequest> newRequests) {
            requests = newRequests;
            requests.disableAutoRequestWithInitial(1);
        }

        @Override
        public void onNext(WatchTokensResponse message) {
            then(() -> {
                pauseAtMost = SHORTEST_PAUSE;
                take(message);
                expectMessage(silenceAllowed);
                requests.request(1);
            });
        }

        @Override
        public void onError(Throwable failure) {
            then(Watch.this::reopen);
        }

        @Override
        public void onCompleted() {
            then(Watch.this::reopen);
        }

        void subscribe(Token token) {
            if (subscribed.add(token.installId())) {
                requests.onNext(broker.subscribe(token.installId(), token.generation()));
            }
        }

        void unsubscribe(String installId) {
            if (subscribed.remove(installId)) {
                requests.onNext(broker.unsubscribe(installId));
            }
        }

        void end() {
            requests.cancel("closed", null);
        }

        private void take(WatchTokensResponse message) {
            switch (message.getEventCase()) {
                case TOKEN -> take(message.getToken());
                case UNAVAILABLE -> take(message.getUnavailable());
                case HEARTBEAT -> take(message.getHeartbeat());
                case EVENT_NOT_SET -> {} // Of a newer broker. That it came is news enough.
            }
        }

        private void take(GetTokenResponse token) {
            memory.update(broker.token(token, token.getInstallId()));
        }

        private void take(WatchTokensUnavailable event) {
            var installId = event.getInstallId();
            switch (Failures.reasonOf(event.getFailure())) {
                case INSTALL_NOT_FOUND -> {
                    subscribed.remove(installId); // The broker has ended it, too.
                    memory.drop(installId);
                }
                case INVALID_FIELD, OVERLOADED -> subscribed.remove(installId);
                case REAUTHORIZATION_REQUIRED, CALLER_NOT_ALLOWED -> memory.drop(installId);
                case PROVIDER_UNAVAILABLE -> memory.spend(installId, Long.MAX_VALUE); // Envoy has rejected it.
                default -> {} // The broker's own trouble is nobody's while the token lives.
            }
        }

        private void take(WatchTokensHeartbeat heartbeat) {
            var nextWithin = Failures.duration(heartbeat.getNextWithin());
            if (!nextWithin.isZero() && !nextWithin.isNegative()) {
                silenceAllowed = nextWithin.multipliedBy(MISSED_BEFORE_DEAD);
            }
        }

        /** Does it on the timer's thread, unless another stream has taken this one's place. */
        private void then(Runnable action) {
            timer.execute(() -> {
                if (stream == this) {
                    action.run();
                }
            });
        }

        private void expectMessage(Duration within) {
            if (alarm != null) {
                alarm.cancel(false);
            }
            alarm = timer.schedule(() -> then(this::endAsDead), within.toMillis(), TimeUnit.MILLISECONDS);
        }

        private void endAsDead() {
            requests.cancel("nothing has come for too long", null);
            reopen();
        }
    }
}
