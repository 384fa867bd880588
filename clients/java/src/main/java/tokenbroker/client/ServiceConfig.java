package tokenbroker.client;

import static java.util.Map.entry;

import java.util.List;
import java.util.Map;

/** How gRPC treats calls to the broker, as its service config says it: JSON as maps, where numbers are doubles. */
final class ServiceConfig {
    private static final String SERVICE = "tokenbroker.v1.TokenBroker";

    /** Within the deadline of the call, and only as long as the broker does not forbid it. */
    private static final Map<String, ?> RETRIES = Map.ofEntries(
            entry("maxAttempts", 4.0),
            entry("initialBackoff", "0.05s"),
            entry("maxBackoff", "1s"),
            entry("backoffMultiplier", 2.0),
            entry("retryableStatusCodes", List.of("UNAVAILABLE")));

    private static final Map<String, ?> CALLS = Map.ofEntries(
            entry("name", List.of(method("GetToken"), method("ReportRejectedToken"))), entry("retryPolicy", RETRIES));

    static final Map<String, ?> DEFAULT = Map.ofEntries(
            entry("loadBalancingConfig", List.of(Map.of("round_robin", Map.of()))),
            entry("healthCheckConfig", Map.of("serviceName", SERVICE)),
            entry("methodConfig", List.of(CALLS)));

    private ServiceConfig() {}

    private static Map<String, String> method(String name) {
        return Map.of("service", SERVICE, "method", name);
    }
}
