package tokenbroker.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Pattern;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a new user copies. */
class ReadmeTest {
    private static final Pattern PROGRAM = Pattern.compile("```java\n(import .*?)```", Pattern.DOTALL);

    @TempDir
    Path folder;

    /** The first program that anybody tries has to run as it is printed. */
    @Test
    void programOfTheReadmePrintsAMaskedToken() throws Exception {
        var match = PROGRAM.matcher(Files.readString(Path.of("README.md")));
        assertTrue(match.find());
        try (var broker = new FakeBroker()) {
            var source = folder.resolve("Main.java");
            Files.writeString(source, match.group(1).replace("127.0.0.1:50051", broker.target()));
            assertEquals(0, compile(source));
            assertEquals("Token[Bearer ********, install 1000000, generation 1], for 59 minutes\n", run());
        }
    }

    private static int compile(Path source) {
        var compiler = ToolProvider.getSystemJavaCompiler();
        return compiler.run(null, null, null, "-cp", System.getProperty("java.class.path"), source.toString());
    }

    private String run() throws Exception {
        var printed = new ByteArrayOutputStream();
        var stdout = System.out;
        System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
        try (var loader = new URLClassLoader(new URL[] {folder.toUri().toURL()})) {
            loader.loadClass("Main").getMethod("main", String[].class).invoke(null, (Object) new String[0]);
        } finally {
            System.setOut(stdout);
        }
        return printed.toString(StandardCharsets.UTF_8);
    }
}
