package tokenbroker.client;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileTime;
import java.security.GeneralSecurityException;
import java.util.List;

/**
 * What files hold, read again when they change. What can't be used is not taken: the last good one stays, and the next
 * use tries again. Looking costs one stat a file, and happens where it is used: a handshake, a call.
 *
 * @param <T> what the files hold
 */
final class Reloaded<T> {
    private static final System.Logger LOGGER = System.getLogger(Reloaded.class.getName());
    private static final int LONGEST_FILE_BYTES = 1 << 20;

    /**
     * Makes the value of the files.
     *
     * @param <T> what the files hold
     */
    @FunctionalInterface
    interface Reader<T> {
        T read() throws IOException, GeneralSecurityException;
    }

    private record Stamp(FileTime modified, long bytes, Object inode) {
        private static final Stamp MISSING = new Stamp(FileTime.fromMillis(0), 0, null);

        static Stamp of(Path file) {
            try {
                var attributes = Files.readAttributes(file, BasicFileAttributes.class);
                return new Stamp(attributes.lastModifiedTime(), attributes.size(), attributes.fileKey());
            } catch (IOException unreadable) {
                return MISSING;
            }
        }
    }

    private record Version<T>(List<Stamp> stamps, T value) {}

    private final List<Path> files;
    private final Reader<T> reader;
    private volatile Version<T> good;
    private List<Stamp> refused = List.of();

    /**
     * Reads the files for the first time.
     *
     * @throws IllegalArgumentException they can't be used
     */
    Reloaded(List<Path> files, Reader<T> reader) {
        this.files = files;
        this.reader = reader;
        try {
            this.good = new Version<>(stamps(), reader.read());
        } catch (IOException | GeneralSecurityException | RuntimeException unusable) {
            throw new IllegalArgumentException("can't use " + files + ": " + unusable.getMessage(), unusable);
        }
    }

    T get() {
        var stamps = stamps();
        return stamps.equals(good.stamps) ? good.value : reload(stamps);
    }

    /** The bytes of a file that nobody has made endless. */
    static byte[] bytesOf(Path file) throws IOException {
        try (var input = Files.newInputStream(file)) {
            var bytes = input.readNBytes(LONGEST_FILE_BYTES + 1);
            if (bytes.length > LONGEST_FILE_BYTES) {
                throw new IOException("longer than " + LONGEST_FILE_BYTES + " bytes");
            }
            return bytes;
        }
    }

    private synchronized T reload(List<Stamp> stamps) {
        try {
            good = new Version<>(stamps, reader.read());
        } catch (IOException | GeneralSecurityException | RuntimeException unusable) {
            if (!stamps.equals(refused)) {
                refused = stamps;
                LOGGER.log(
                        System.Logger.Level.WARNING,
                        () -> "can't use the new " + files + ", keeping the last good one: " + unusable.getMessage());
            }
        }
        return good.value;
    }

    private List<Stamp> stamps() {
        return files.stream().map(Stamp::of).toList();
    }
}
