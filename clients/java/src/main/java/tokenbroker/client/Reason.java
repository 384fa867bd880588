package tokenbroker.client;

import java.util.Arrays;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;

/** Why there is no token: the broker's {@code ErrorReason}s, and three of the client's own. */
public enum Reason {
    /** There is no such install, or the caller may not use it: the two look the same. */
    INSTALL_NOT_FOUND,
    /** Somebody at the company must go through the app's setup in Envoy again. */
    REAUTHORIZATION_REQUIRED,
    /** Envoy is away, and no valid token is left. Retry after {@link TokenBrokerException#retryAfter()}. */
    PROVIDER_UNAVAILABLE,
    /** Envoy refuses the app's own credentials. The broker's operator mends it. */
    CLIENT_CREDENTIALS_REFUSED,
    /** The request is malformed: the same one fails again. */
    INVALID_FIELD,
    /** A webhook's signature does not fit. No call of this client is answered so. */
    SIGNATURE_REFUSED,
    /** The broker has as much to do as it can bear. Retry later. */
    OVERLOADED,
    /** The broker's database is away. Retry later. */
    STORE_UNAVAILABLE,
    /** The caller is not allowed to do this to any install. */
    CALLER_NOT_ALLOWED,
    /** The caller did not prove who it is. */
    CALLER_UNAUTHENTICATED,
    /** This release of the broker does not do that. */
    NOT_IMPLEMENTED,
    /** The broker is at fault. */
    INTERNAL,
    /** The broker is stopping. Retry: another replica answers. */
    SHUTTING_DOWN,
    /** The broker can't put the call on record, and so does nothing. Retry later. */
    AUDIT_UNAVAILABLE,
    /** The client's own: no broker could be reached, or none has said why it is unavailable. */
    BROKER_UNREACHABLE,
    /** The client's own: the answer did not come in time. */
    DEADLINE_EXCEEDED,
    /** The client's own: the broker gave a reason that this release does not know, or none. */
    UNRECOGNIZED;

    private static final Map<String, Reason> BY_NAME =
            Arrays.stream(values()).collect(Collectors.toUnmodifiableMap(Reason::name, Function.identity()));

    static Reason named(String name) {
        return BY_NAME.getOrDefault(name, UNRECOGNIZED);
    }

    /** Whether it says that the caller must not use the tokens it has. */
    boolean endsUse() {
        return this == INSTALL_NOT_FOUND || this == REAUTHORIZATION_REQUIRED || this == CALLER_NOT_ALLOWED;
    }
}
