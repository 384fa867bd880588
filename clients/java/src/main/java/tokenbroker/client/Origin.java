package tokenbroker.client;

import java.net.URI;
import java.util.Locale;

/** Scheme, host and port of a URL (RFC 6454): to whom a token may go. */
record Origin(String scheme, String host, int port) {
    static final URI ENVOY = URI.create("https://api.envoy.com");

    private static final int HTTPS_PORT = 443;
    private static final int HTTP_PORT = 80;

    /**
     * The origin of a URL.
     *
     * @throws IllegalArgumentException it is no http or https URL with a host
     */
    static Origin of(URI url) {
        if (url.getScheme() == null || url.getHost() == null) {
            throw new IllegalArgumentException("no origin: " + url);
        }
        var scheme = url.getScheme().toLowerCase(Locale.ROOT);
        var defaultPort = switch (scheme) {
            case "https" -> HTTPS_PORT;
            case "http" -> HTTP_PORT;
            default -> throw new IllegalArgumentException("neither http nor https: " + url);
        };
        var host = url.getHost().toLowerCase(Locale.ROOT).replaceAll("^\\[|]$", ""); // RFC 3986's of an IPv6 address.
        return new Origin(scheme, host, url.getPort() < 0 ? defaultPort : url.getPort());
    }
}
