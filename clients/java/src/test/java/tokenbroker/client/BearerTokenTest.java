package tokenbroker.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Attributes;
import io.grpc.CallCredentials;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.SecurityLevel;
import io.grpc.Status;
import io.grpc.TlsServerCredentials.ClientAuth;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CompletionException;
import java.util.concurrent.atomic.AtomicReference;
import okhttp3.tls.HeldCertificate;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import tokenbroker.v1.TokenBrokerGrpc;

/** A bearer token goes to the broker alone, and as its file holds it. */
class BearerTokenTest {
    @TempDir
    Path folder;

    private Path authorities;
    private Path token;

    @BeforeEach
    void write() throws IOException {
        authorities = folder.resolve("ca.pem");
        token = folder.resolve("token");
        Files.writeString(authorities, Certificates.AUTHORITY.certificatePem());
        Files.writeString(token, "header.payload.first\n");
    }

    /** A certificate of the same authority for another host is another's. */
    @Test
    void certificateForAnotherHostIsNotBelieved() throws IOException {
        var elsewhere = new HeldCertificate.Builder()
                .signedBy(Certificates.AUTHORITY)
                .addSubjectAlternativeName("127.0.0.2")
                .build();
        try (var broker = new FakeBroker(Certificates.tls(elsewhere, ClientAuth.NONE))) {
            var credentials = Credentials.bearerToken(authorities, token);
            assertThrows(CompletionException.class, () -> call(broker, credentials));
            assertTrue(broker.headers.isEmpty());
        }
    }

    /** Else whoever sits on the address gets the caller's bearer token, and hands out tokens of his own. */
    @Test
    void brokerOfAnotherAuthorityIsNotBelieved() throws IOException {
        Files.writeString(authorities, Certificates.authority().certificatePem());
        try (var broker = new FakeBroker(Certificates.tls(ClientAuth.NONE))) {
            var credentials = Credentials.bearerToken(authorities, token);
            var thrown = assertThrows(CompletionException.class, () -> call(broker, credentials));
            assertEquals(Reason.BROKER_UNREACHABLE, Failures.of(thrown).reason());
            assertTrue(broker.headers.isEmpty());
        }
    }

    /** Kubernetes renews a projected token long before it ends. */
    @Test
    void bearerTokenIsReadAgainWhenItChanges() throws Exception {
        try (var broker = new FakeBroker(Certificates.tls(ClientAuth.NONE));
                var client = open(broker, Credentials.bearerToken(authorities, token))) {
            get(client, "1");
            assertEquals("Bearer header.payload.first", authorization(broker));
            Files.writeString(token, "header.payload.second-one\n");
            get(client, "2");
            assertEquals("Bearer header.payload.second-one", authorization(broker));
            Files.writeString(token, "");
            get(client, "3");
            assertEquals("Bearer header.payload.second-one", authorization(broker));
        }
    }

    /** In the clear everybody on the way could be the caller from then on. */
    @Test
    void bearerTokenIsNeverSentInTheClear() {
        var insecure = Credentials.insecure();
        assertThrows(IllegalStateException.class, () -> insecure.withBearerToken(token));
        var refusal = new AtomicReference<Status>();
        new BearerToken(token)
                .applyRequestMetadata(callInTheClear(), Runnable::run, new CallCredentials.MetadataApplier() {
                    @Override
                    public void apply(Metadata headers) {
                        throw new AssertionError("sent");
                    }

                    @Override
                    public void fail(Status status) {
                        refusal.set(status);
                    }
                });
        assertEquals(Status.Code.UNAUTHENTICATED, refusal.get().getCode());
    }

    /** And no word of what the file holds instead: it may be half a token. */
    @Test
    void fileThatHoldsNoTokenIsRefusedAtOnce() throws IOException {
        Files.writeString(token, "two words");
        var refusal = assertThrows(IllegalArgumentException.class, () -> Credentials.bearerToken(authorities, token));
        assertTrue(refusal.getMessage().endsWith("no bearer token"), refusal.getMessage());
    }

    private static void call(FakeBroker broker, Credentials credentials) {
        try (var client = open(broker, credentials)) {
            get(client, "1000000");
        }
    }

    private static Client open(FakeBroker broker, Credentials credentials) {
        return Client.builder(broker.target()).credentials(credentials).build();
    }

    private static void get(Client client, String installId) {
        client.token(installId).toCompletableFuture().join();
    }

    private static String authorization(FakeBroker broker) throws InterruptedException {
        return broker.headers.take().get(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER));
    }

    private static CallCredentials.RequestInfo callInTheClear() {
        return new CallCredentials.RequestInfo() {
            @Override
            public MethodDescriptor<?, ?> getMethodDescriptor() {
                return TokenBrokerGrpc.getGetTokenMethod();
            }

            @Override
            public SecurityLevel getSecurityLevel() {
                return SecurityLevel.NONE;
            }

            @Override
            public String getAuthority() {
                return "tokens";
            }

            @Override
            public Attributes getTransportAttrs() {
                return Attributes.EMPTY;
            }
        };
    }
}
