package tokenbroker.conformance;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParseException;
import java.time.Duration;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeoutException;
import java.util.stream.Stream;
import tokenbroker.client.Client;
import tokenbroker.client.Token;
import tokenbroker.client.TokenBrokerException;

/** What the adapter answers, as JSON. */
final class Answers {
    private static final double NANOS_PER_SECOND = Duration.ofSeconds(1).toNanos();
    private static final Gson GSON = new GsonBuilder().create();

    private Answers() {}

    static JsonObject of(Token token) {
        var answer = new JsonObject();
        answer.addProperty("token", token.reveal());
        answer.addProperty("generation", token.generation());
        answer.addProperty("company", token.companyId());
        return answer;
    }

    static JsonObject of(int status, String body) {
        var answer = new JsonObject();
        answer.addProperty("status", status);
        answer.addProperty("body", body);
        return answer;
    }

    /** Every way in which they turn into text: as a person, a log or a serializer would. */
    static JsonObject texts(Token token, Client client) {
        var texts = new JsonArray();
        Stream.of(token, client, token.remaining())
                .flatMap(value -> Stream.of(value.toString(), String.format("%s", value), "" + value))
                .forEach(texts::add);
        try {
            texts.add(GSON.toJson(token));
        } catch (JsonParseException | UnsupportedOperationException refused) {
            texts.add(refused.toString());
        }
        var answer = new JsonObject();
        answer.add("texts", texts);
        return answer;
    }

    static JsonObject failed(Throwable thrown) {
        var failure = thrown instanceof CompletionException ? thrown.getCause() : thrown;
        if (failure instanceof CancellationException) {
            var answer = new JsonObject();
            answer.addProperty("cancelled", true);
            return answer;
        }
        if (failure instanceof TokenBrokerException known) {
            return error(known);
        }
        if (failure instanceof TimeoutException) {
            // The caller's own deadline: orTimeout's, as Java has it, and no error of the client's.
            return error("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED");
        }
        failure.printStackTrace();
        return error("CONFIGURATION", null);
    }

    private static JsonObject error(TokenBrokerException failure) {
        var answer = error(failure.reason().name(), failure.code().name());
        failure.retryAfter()
                .ifPresent(delay -> answer.getAsJsonObject("error")
                        .addProperty("retry_after_seconds", delay.toNanos() / NANOS_PER_SECOND));
        return answer;
    }

    private static JsonObject error(String reason, String code) {
        var error = new JsonObject();
        error.addProperty("reason", reason);
        if (code != null) {
            error.addProperty("code", code);
        }
        var answer = new JsonObject();
        answer.add("error", error);
        return answer;
    }
}
