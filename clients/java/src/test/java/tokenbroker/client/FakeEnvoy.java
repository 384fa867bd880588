package tokenbroker.client;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;

/** An HTTP server that notes who asks, and answers 401 as often as a test wants. */
final class FakeEnvoy implements AutoCloseable {
    static final String NO_AUTHORIZATION = "none";

    private final List<String> authorizations = new CopyOnWriteArrayList<>();
    private final List<String> bodies = new CopyOnWriteArrayList<>();
    private final AtomicInteger refusals = new AtomicInteger();
    private final HttpServer server;
    private volatile URI redirect;

    FakeEnvoy() throws IOException {
        server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0);
        server.createContext("/", this::answer);
        server.start();
    }

    URI origin() {
        return URI.create("http://127.0.0.1:" + server.getAddress().getPort());
    }

    void refuses(int times) {
        refusals.set(times);
    }

    void redirectsTo(URI target) {
        redirect = target;
    }

    List<String> authorizations() {
        return authorizations;
    }

    List<String> bodies() {
        return bodies;
    }

    @Override
    public void close() {
        server.stop(0);
    }

    private void answer(HttpExchange exchange) throws IOException {
        try (exchange) {
            authorizations.add(Optional.ofNullable(exchange.getRequestHeaders().getFirst("Authorization"))
                    .orElse(NO_AUTHORIZATION));
            bodies.add(new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8));
            var body = ("answer " + authorizations.size()).getBytes(StandardCharsets.UTF_8);
            if (redirect != null) {
                exchange.getResponseHeaders().set("Location", redirect.toString());
            }
            exchange.sendResponseHeaders(status(), body.length);
            exchange.getResponseBody().write(body);
        }
    }

    private int status() {
        if (redirect != null) {
            return 302;
        }
        return refusals.getAndDecrement() > 0 ? 401 : 200;
    }
}
