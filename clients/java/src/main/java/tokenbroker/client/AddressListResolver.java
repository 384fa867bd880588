package tokenbroker.client;

import io.grpc.Attributes;
import io.grpc.EquivalentAddressGroup;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.StatusOr;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.UnknownHostException;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Pattern;

/** Resolves {@code ipv4:10.0.0.1:50051,10.0.0.2:50051}, a name of gRPC's that its Java library does not know. */
final class AddressListResolver extends NameResolver {
    static final String SCHEME = "ipv4";

    private static final Pattern ADDRESS = Pattern.compile("(\\d{1,3}(?:\\.\\d{1,3}){3}):(\\d{1,5})");

    private final List<EquivalentAddressGroup> addresses;

    private AddressListResolver(List<EquivalentAddressGroup> addresses) {
        this.addresses = addresses;
    }

    @Override
    public void start(Listener2 listener) {
        listener.onResult(ResolutionResult.newBuilder()
                .setAddressesOrError(StatusOr.fromValue(addresses))
                .build());
    }

    /** Not of use: each address is its own authority. */
    @Override
    public String getServiceAuthority() {
        return SCHEME;
    }

    @Override
    public void shutdown() {}

    static final class Provider extends NameResolverProvider {
        @Override
        public NameResolver newNameResolver(URI target, NameResolver.Args args) {
            return SCHEME.equals(target.getScheme()) ? of(target.getSchemeSpecificPart()) : null;
        }

        @Override
        public String getDefaultScheme() {
            return SCHEME;
        }

        @Override
        protected boolean isAvailable() {
            return true;
        }

        @Override
        protected int priority() {
            return 5;
        }
    }

    /**
     * Reads addresses that are separated by commas.
     *
     * @throws IllegalArgumentException one of them is no IPv4 address with a port
     */
    static AddressListResolver of(String addresses) {
        return new AddressListResolver(Arrays.stream(addresses.split(",", -1))
                .map(AddressListResolver::group)
                .toList());
    }

    private static EquivalentAddressGroup group(String address) {
        var match = ADDRESS.matcher(address);
        if (!match.matches()) {
            throw new IllegalArgumentException("not ADDRESS:PORT: " + address);
        }
        try {
            // Of digits alone: no name is looked up.
            var socket = new InetSocketAddress(InetAddress.getByName(match.group(1)), Integer.parseInt(match.group(2)));
            // A replica's certificate is for its own address, and not for the list.
            var attributes = Attributes.newBuilder()
                    .set(EquivalentAddressGroup.ATTR_AUTHORITY_OVERRIDE, address)
                    .build();
            return new EquivalentAddressGroup(socket, attributes);
        } catch (UnknownHostException notAnAddress) {
            throw new IllegalArgumentException("not ADDRESS:PORT: " + address, notAnAddress);
        }
    }
}
