package tokenbroker.conformance;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * The conformance adapter of this client: commands from stdin, answers to stdout, one JSON object a line. Requests go by
 * java.net.http, or by OkHttp with {@code --okhttp}.
 */
public final class Adapter {
    private final Commands commands;
    private final ExecutorService workers = Executors.newCachedThreadPool();
    private final PrintStream answers = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private Adapter(Commands commands) {
        this.commands = commands;
    }

    /** Serves commands until stdin ends. */
    public static void main(String[] arguments) throws IOException {
        var requests = Arrays.asList(arguments).contains("--okhttp") ? Requests.OKHTTP : Requests.JAVA_NET_HTTP;
        new Adapter(new Commands(requests)).serve();
    }

    private void serve() throws IOException {
        try (var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (var line = input.readLine(); line != null; line = input.readLine()) {
                var command = JsonParser.parseString(line).getAsJsonObject();
                // Each begins here, in the order of the lines; none is waited for.
                answerWhenReady(command, commands.begin(command, workers));
            }
        } finally {
            commands.closeAll();
            workers.shutdownNow();
        }
    }

    private void answerWhenReady(JsonObject command, CompletionStage<JsonObject> result) {
        result.handle((answer, failure) -> failure == null ? answer : Answers.failed(failure))
                .thenAccept(answer -> {
                    answer.add("id", command.get("id"));
                    synchronized (answers) {
                        answers.println(answer);
                    }
                });
    }
}
