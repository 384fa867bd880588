package tokenbroker.client;

import com.google.gson.GsonBuilder;
import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Function;

/**
 * What a token out of memory costs, beside a read of a ConcurrentHashMap.
 *
 * <p>Loops of its own and not JMH: the two must take turns within one run, against one broker, in a few seconds; JMH
 * measures one after the other, each in a JVM of its own.
 */
final class Benchmark {
    private static final double NANOS_PER_SECOND = Duration.ofSeconds(1).toNanos();
    private static final double AIM = 3;
    private static final int ROUNDS = 10;
    private static final int ROUNDS_TO_WARM_UP = 10;
    private static final int THREADS = 16;
    private static final int READS_BETWEEN_LOOKS = 10_000;
    private static final int CLOCK_READS = 1_000_000;
    private static final Duration LONG_ENOUGH_TO_EXPIRE = Duration.ofDays(365);

    private final String target;
    private final String installId;
    private final double secondsOfMeasure;

    /** Reads of one kind: as many as asked for, and how often the answer was what it should be. */
    @FunctionalInterface
    private interface Reads {
        long run(int reads);
    }

    private Benchmark(Map<String, String> options) {
        target = options.get("--target");
        installId = options.get("--install");
        secondsOfMeasure = Double.parseDouble(options.getOrDefault("--seconds", "2"));
    }

    /** {@code --target HOST:PORT --install ID [--seconds N]}. */
    public static void main(String[] arguments) throws Exception {
        var options = new LinkedHashMap<String, String>();
        for (var index = 0; index + 1 < arguments.length; index += 2) {
            options.put(arguments[index], arguments[index + 1]);
        }
        var measured = new Benchmark(options).measured();
        System.out.println(new GsonBuilder().serializeNulls().create().toJson(measured));
    }

    private Map<String, Object> measured() throws Exception {
        var measured = new LinkedHashMap<String, Object>();
        measured.put("language", "java");
        measured.put("runtime", "java" + System.getProperty("java.version"));
        try (var client = open(NanoClock.SYSTEM)) {
            var fresh = client.token(installId).toCompletableFuture().join();
            var answer = client.token(installId);
            var map = new ConcurrentHashMap<String, CompletionStage<Token>>(Map.of(fresh.installId(), answer));
            Reads ours = reads -> matches(client::token, answer, reads);
            Reads yardstick = reads -> matches(map::get, answer, reads);
            putAlone(measured, ours, yardstick);
            putContended(measured, ours, yardstick);
        }
        measured.put("calls_per_second", callsPerSecond());
        return measured;
    }

    private void putAlone(Map<String, Object> measured, Reads ours, Reads yardstick) {
        var nanos = interleaved(ours, yardstick, this::nanosAlone);
        measured.put("fresh_read_ns", nanos.get(0));
        measured.put("yardstick", "ConcurrentHashMap.get");
        measured.put("yardstick_ns", nanos.get(1));
        measured.put("clock_read_ns", nanosOfClockRead()); // Of which each fresh read has one.
        measured.put("ratio", nanos.get(0) / nanos.get(1));
        measured.put("aim", AIM);
        measured.put("allocations_per_read", null); // The JVM counts bytes, not objects.
        measured.put("bytes_per_read", bytesPerRead(ours));
        measured.put("tokens_per_second", NANOS_PER_SECOND / nanos.get(0));
    }

    private void putContended(Map<String, Object> measured, Reads ours, Reads yardstick) {
        var nanos = interleaved(ours, yardstick, this::nanosOfManyThreads);
        measured.put("contended_16_ns", nanos.get(0));
        measured.put("contended_yardstick_ns", nanos.get(1));
    }

    /** The medians of both, taken in turns. */
    private List<Double> interleaved(Reads ours, Reads yardstick, Function<Reads, Double> nanos) {
        for (var round = 0; round < ROUNDS_TO_WARM_UP; round++) {
            nanos.apply(ours);
            nanos.apply(yardstick);
        }
        var oursNanos = new double[ROUNDS];
        var yardstickNanos = new double[ROUNDS];
        for (var round = 0; round < ROUNDS; round++) {
            oursNanos[round] = nanos.apply(ours);
            yardstickNanos[round] = nanos.apply(yardstick);
        }
        return List.of(median(oursNanos), median(yardstickNanos));
    }

    private double nanosAlone(Reads kind) {
        var until = System.nanoTime() + roundNanos();
        var reads = 0L;
        var begun = System.nanoTime();
        do {
            reads += kind.run(READS_BETWEEN_LOOKS);
        } while (System.nanoTime() - until < 0);
        return (System.nanoTime() - begun) / (double) reads;
    }

    /** Nanoseconds a read of all together: the time from the common start to the last end, by all their reads. */
    private double nanosOfManyThreads(Reads kind) {
        var reads = new AtomicLong();
        var ready = new CountDownLatch(THREADS);
        var start = new CountDownLatch(1);
        var threads = new ArrayList<Thread>();
        for (var index = 0; index < THREADS; index++) {
            var thread = new Thread(() -> {
                ready.countDown();
                await(start);
                var until = System.nanoTime() + roundNanos();
                var mine = 0L;
                do {
                    mine += kind.run(READS_BETWEEN_LOOKS);
                } while (System.nanoTime() - until < 0);
                reads.addAndGet(mine);
            });
            thread.start();
            threads.add(thread);
        }
        await(ready);
        var begun = System.nanoTime();
        start.countDown();
        threads.forEach(Benchmark::join);
        return (System.nanoTime() - begun) / (double) reads.get();
    }

    private double callsPerSecond() {
        var later = new AtomicLong();
        try (var client = open(() -> System.nanoTime() + later.get())) {
            var until = System.nanoTime() + (long) (secondsOfMeasure * NANOS_PER_SECOND);
            var begun = System.nanoTime();
            var calls = 0L;
            do {
                client.token(installId).toCompletableFuture().join();
                later.addAndGet(LONG_ENOUGH_TO_EXPIRE.toNanos()); // What is in memory is worth nothing any more.
                calls++;
            } while (System.nanoTime() - until < 0);
            return calls * NANOS_PER_SECOND / (System.nanoTime() - begun);
        }
    }

    private Client open(NanoClock clock) {
        return Client.builder(target)
                .credentials(Credentials.insecure())
                .clock(clock)
                .build();
    }

    private long roundNanos() {
        return (long) (secondsOfMeasure * NANOS_PER_SECOND / (2 * (ROUNDS + ROUNDS_TO_WARM_UP)));
    }

    private long matches(Function<String, CompletionStage<Token>> read, CompletionStage<Token> expected, int reads) {
        var matching = 0L;
        for (var index = 0; index < reads; index++) {
            if (read.apply(installId) == expected) {
                matching++;
            }
        }
        if (matching != reads) {
            throw new IllegalStateException("the token did not stay fresh in memory");
        }
        return matching;
    }

    private static double nanosOfClockRead() {
        var last = System.nanoTime();
        var begun = last;
        for (var index = 0; index < CLOCK_READS; index++) {
            last = System.nanoTime();
        }
        return (last - begun) / (double) CLOCK_READS;
    }

    private static double bytesPerRead(Reads ours) {
        var threads = (com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean();
        ours.run(READS_BETWEEN_LOOKS);
        var before = threads.getCurrentThreadAllocatedBytes();
        ours.run(READS_BETWEEN_LOOKS);
        return Math.floor((threads.getCurrentThreadAllocatedBytes() - before) / (double) READS_BETWEEN_LOOKS);
    }

    private static double median(double[] values) {
        var sorted = Arrays.stream(values).sorted().toArray();
        return (sorted[(sorted.length - 1) / 2] + sorted[sorted.length / 2]) / 2;
    }

    private static void await(CountDownLatch latch) {
        try {
            latch.await();
        } catch (InterruptedException interrupted) {
            throw new IllegalStateException(interrupted);
        }
    }

    private static void join(Thread thread) {
        try {
            thread.join();
        } catch (InterruptedException interrupted) {
            throw new IllegalStateException(interrupted);
        }
    }
}
