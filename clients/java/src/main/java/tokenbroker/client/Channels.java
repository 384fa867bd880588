package tokenbroker.client;

import io.grpc.ChannelCredentials;
import io.grpc.ConnectivityState;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.NameResolverRegistry;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * Connections to the broker's replicas: one channel, and another once the files of the credentials have changed.
 *
 * <p>A new channel and not a key manager that reads them at each handshake, as grpc-util has one: a connection that
 * stands would show the old certificate for as long as the broker keeps it. That manager also takes a new pair only once
 * both files have changed, and so never a certificate that was renewed for the same key.
 */
final class Channels implements AutoCloseable {
    static final String VERSION = "0.1.0";

    private static final String USER_AGENT = "token-broker-client-java/" + VERSION;
    private static final Duration PING_AFTER_SILENCE = Duration.ofSeconds(30);
    private static final Duration PING_TIMEOUT = Duration.ofSeconds(10);
    /** gRPC's own pauses between attempts to connect grow to two minutes: too long for who waits for a token. */
    private static final Duration RECONNECT_PAUSE = Duration.ofSeconds(10);

    private final String target;
    private final Credentials credentials;
    private final NanoClock clock;
    private ChannelCredentials openedWith;
    private ManagedChannel channel;
    private long reconnectAtNanos;
    private boolean closed;

    /**
     * Opens a channel. No connection is made before the first call.
     *
     * @throws IllegalArgumentException the target is no name that gRPC knows
     */
    Channels(String target, Credentials credentials, NanoClock clock) {
        this.target = target;
        this.credentials = credentials;
        this.clock = clock;
        this.reconnectAtNanos = clock.nanos();
        open(credentials.current());
    }

    /**
     * Begins a call that others may wait for, too. Where the one who begins it serves a gRPC call himself, the end of
     * that one, or its deadline, must not be the end of this; a fork of his context keeps all else.
     */
    synchronized void begin(Consumer<ManagedChannel> call) {
        renewIfChanged();
        reconnectIfDue();
        Context.current().fork().run(() -> call.accept(channel));
    }

    @Override
    public synchronized void close() {
        closed = true;
        channel.shutdownNow();
    }

    private void renewIfChanged() {
        var current = credentials.current();
        if (current != openedWith && !closed) {
            channel.shutdown(); // Calls under way go on.
            open(current);
        }
    }

    private void reconnectIfDue() {
        var now = clock.nanos();
        if (channel.getState(false) == ConnectivityState.TRANSIENT_FAILURE && now - reconnectAtNanos >= 0) {
            reconnectAtNanos = now + RECONNECT_PAUSE.toNanos();
            channel.resetConnectBackoff();
        }
    }

    private void open(ChannelCredentials with) {
        channel = builder(with)
                .userAgent(USER_AGENT)
                .defaultServiceConfig(ServiceConfig.DEFAULT)
                .disableServiceConfigLookUp()
                .keepAliveTime(PING_AFTER_SILENCE.toSeconds(), TimeUnit.SECONDS)
                .keepAliveTimeout(PING_TIMEOUT.toSeconds(), TimeUnit.SECONDS)
                .intercept(new TraceHeaders())
                .build();
        openedWith = with;
    }

    private ManagedChannelBuilder<?> builder(ChannelCredentials with) {
        if (!target.startsWith(AddressListResolver.SCHEME + ":")) {
            return Grpc.newChannelBuilder(target, with);
        }
        // A registry of this channel's own: what names mean in the rest of the process is not a library's business.
        var registry = new NameResolverRegistry();
        registry.register(new AddressListResolver.Provider());
        return Grpc.newChannelBuilder(target, with, registry);
    }
}
