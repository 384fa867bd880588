import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.Executors;
import java.util.regex.Pattern;
import tokenbroker.client.Client;
import tokenbroker.client.Credentials;
import tokenbroker.client.TokenBrokerException;
import tokenbroker.client.TokenHttpClient;

/** A small service: {@code GET /company/100000?install=1000000} answers with that company, as Envoy knows it. */
public final class Company {
    private static final Pattern ASKED = Pattern.compile("/company/(\\d+)\\?install=(\\d+)");
    private static final URI ENVOY = URI.create(setting("ENVOY_ORIGIN", "http://127.0.0.1:8081"));
    private static final HttpClient HTTP = HttpClient.newHttpClient();

    // One for the whole process: it remembers tokens, and asks the broker only when they are not fresh any more.
    // In the clear, to a broker on this machine; any other is shown a certificate, or the file of a token.
    private static final Client TOKENS = Client.builder(setting("TOKEN_BROKER_TARGET", "127.0.0.1:50051"))
            .credentials(Credentials.insecure())
            .build();

    private Company() {}

    public static void main(String[] arguments) throws IOException {
        var port = Integer.parseInt(setting("PORT", "8000"));
        var server = HttpServer.create(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 0);
        server.setExecutor(Executors.newFixedThreadPool(16));
        server.createContext("/company/", Company::answer);
        server.start();
    }

    private static void answer(HttpExchange exchange) throws IOException {
        try (exchange) {
            try {
                company(exchange);
            } catch (TokenBrokerException failure) {
                send(exchange, 502, "{\"error\": \"" + failure.reason() + "\"}"); // Such as INSTALL_NOT_FOUND.
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    /** Answers as Envoy does, with the token's generation in a header. The token itself goes nowhere but to Envoy. */
    private static void company(HttpExchange exchange) throws IOException, InterruptedException {
        var asked = ASKED.matcher(exchange.getRequestURI().toString());
        if (!asked.matches()) {
            send(exchange, 404, "{\"error\": \"ask for /company/COMPANY?install=INSTALL\"}");
            return;
        }
        var install = asked.group(2);
        // Puts the install's token on each request to Envoy. If Envoy answers 401, it reports that to the broker, and
        // sends the request once more with a newer token.
        var envoy = new TokenHttpClient(TOKENS, install, HTTP, ENVOY);
        var request = HttpRequest.newBuilder(ENVOY.resolve("/api/v3/companies/" + asked.group(1)))
                .build();
        var answer = envoy.send(request, BodyHandlers.ofString());
        var generation = TOKENS.token(install).toCompletableFuture().join().generation(); // From memory.
        exchange.getResponseHeaders().set("Token-Generation", Long.toString(generation));
        send(exchange, answer.statusCode(), answer.body());
    }

    private static void send(HttpExchange exchange, int status, String json) throws IOException {
        var body = json.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
    }

    private static String setting(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }
}
