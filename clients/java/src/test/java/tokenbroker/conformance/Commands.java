package tokenbroker.conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator;
import io.opentelemetry.context.Context;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executor;
import java.util.concurrent.TimeUnit;
import tokenbroker.client.Client;
import tokenbroker.client.Token;

/** The commands of the adapter, each with its answer. */
final class Commands {
    private static final double MILLIS_PER_SECOND = 1000;

    private final Map<String, Client> clients = new ConcurrentHashMap<>();
    private final Map<JsonElement, CompletableFuture<Token>> waiting = new ConcurrentHashMap<>();
    private final Requests requests;

    Commands(Requests requests) {
        this.requests = requests;
    }

    CompletionStage<JsonObject> begin(JsonObject command, Executor workers) {
        try {
            return switch (text(command, "do")) {
                case "open" -> open(command);
                case "get" -> get(command);
                case "cancel" -> cancel(command);
                case "request" -> CompletableFuture.supplyAsync(() -> requests.send(client(command), command), workers);
                case "describe" ->
                    client(command)
                            .token(text(command, "install"))
                            .thenApply(token -> Answers.texts(token, client(command)));
                case "close" -> close(command);
                default -> throw new IllegalArgumentException("unknown command: " + command);
            };
        } catch (RuntimeException failure) {
            return CompletableFuture.failedStage(failure);
        }
    }

    void closeAll() {
        clients.values().forEach(Client::close);
    }

    private CompletionStage<JsonObject> open(JsonObject command) {
        clients.put(text(command, "client"), Options.open(command));
        return done();
    }

    private CompletionStage<JsonObject> get(JsonObject command) {
        var token = inTrace(command);
        if (command.has("timeout_seconds")) {
            var millis = command.get("timeout_seconds").getAsDouble() * MILLIS_PER_SECOND;
            token.orTimeout((long) millis, TimeUnit.MILLISECONDS);
        }
        var id = command.get("id");
        waiting.put(id, token);
        token.whenComplete((got, failure) -> waiting.remove(id));
        return token.thenApply(Answers::of);
    }

    /** Asks for the token as one whose trace is the command's. */
    private CompletableFuture<Token> inTrace(JsonObject command) {
        var context = W3CTraceContextPropagator.getInstance().extract(Context.root(), command, Commands::header);
        return context.wrapSupplier(() -> client(command).token(text(command, "install")))
                .get()
                .toCompletableFuture();
    }

    private CompletionStage<JsonObject> cancel(JsonObject command) {
        var token = waiting.get(command.get("of"));
        if (token != null) {
            token.cancel(true);
        }
        return done();
    }

    private CompletionStage<JsonObject> close(JsonObject command) {
        clients.remove(text(command, "client")).close();
        return done();
    }

    private Client client(JsonObject command) {
        return clients.get(text(command, "client"));
    }

    private static CompletionStage<JsonObject> done() {
        return CompletableFuture.completedStage(new JsonObject());
    }

    private static String text(JsonObject command, String field) {
        return command.get(field).getAsString();
    }

    /** A field of the command as a header of the caller's request; null if it has none. */
    private static String header(JsonObject command, String name) {
        return command.has(name) ? text(command, name) : null;
    }
}
