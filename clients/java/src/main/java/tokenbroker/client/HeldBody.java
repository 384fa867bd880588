package tokenbroker.client;

import java.net.http.HttpResponse.BodySubscriber;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Flow;
import java.util.function.Consumer;

/**
 * The body of a response that waits until it is decided who reads it. Nothing is buffered meanwhile: the connection's
 * own back pressure holds it.
 *
 * @param <T> what the body becomes
 */
final class HeldBody<T> implements BodySubscriber<T> {
    private final CompletionStage<BodySubscriber<T>> reader;
    /** The reader, once it has been given all signals so far. Signals come one after another (Flow, rule 1.3). */
    private CompletionStage<BodySubscriber<T>> informed;

    HeldBody(CompletionStage<BodySubscriber<T>> reader) {
        this.reader = reader;
        this.informed = reader;
    }

    @Override
    public CompletionStage<T> getBody() {
        return reader.thenCompose(BodySubscriber::getBody);
    }

    @Override
    public void onSubscribe(Flow.Subscription subscription) {
        inform(subscriber -> subscriber.onSubscribe(subscription));
    }

    @Override
    public void onNext(List<ByteBuffer> buffers) {
        inform(subscriber -> subscriber.onNext(buffers));
    }

    @Override
    public void onError(Throwable failure) {
        inform(subscriber -> subscriber.onError(failure));
    }

    @Override
    public void onComplete() {
        inform(Flow.Subscriber::onComplete);
    }

    private void inform(Consumer<BodySubscriber<T>> signal) {
        informed = informed.thenApply(subscriber -> {
            signal.accept(subscriber);
            return subscriber;
        });
    }

    /**
     * Reads a short body to its end, so that its connection serves another request, and cuts a long one off.
     *
     * @param <T> what the body would have become: null stands for it
     */
    static final class Discarding<T> implements BodySubscriber<T> {
        private static final long WORTH_READING_BYTES = 64 * 1024;

        private final CompletableFuture<T> body = new CompletableFuture<>();
        private Flow.Subscription subscription;
        private long bytes;

        @Override
        public CompletionStage<T> getBody() {
            return body;
        }

        @Override
        public void onSubscribe(Flow.Subscription newSubscription) {
            subscription = newSubscription;
            subscription.request(Long.MAX_VALUE);
        }

        @Override
        public void onNext(List<ByteBuffer> buffers) {
            for (var buffer : buffers) {
                bytes += buffer.remaining();
            }
            if (bytes > WORTH_READING_BYTES) {
                subscription.cancel();
                body.complete(null);
            }
        }

        @Override
        public void onError(Throwable failure) {
            body.complete(null); // Nobody wants it.
        }

        @Override
        public void onComplete() {
            body.complete(null);
        }
    }
}
