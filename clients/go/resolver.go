package tokenbroker

import (
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc/resolver"
)

const addressListScheme = "ipv4"

// addressList resolves "ipv4:HOST:PORT,HOST:PORT", as gRPC's naming document has it and its Go has not.
type addressList struct{}

// Scheme implements resolver.Builder.
func (addressList) Scheme() string { return addressListScheme }

// OverrideAuthority implements resolver.AuthorityOverrider: a list is no authority, and so the first stands for all.
func (addressList) OverrideAuthority(target resolver.Target) string {
	first, _, _ := strings.Cut(target.Endpoint(), ",")
	return first
}

// Build implements resolver.Builder.
func (addressList) Build(
	target resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions,
) (resolver.Resolver, error) {
	endpoints, err := endpointsOf(target.Endpoint())
	if err != nil {
		return nil, err
	}
	return still{}, conn.UpdateState(resolver.State{Endpoints: endpoints})
}

func endpointsOf(list string) ([]resolver.Endpoint, error) {
	var endpoints []resolver.Endpoint
	for address := range strings.SplitSeq(list, ",") {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("the target: %w", err)
		}
		// Each replica's certificate is for its own address, whichever stands for all.
		own := resolver.Address{Addr: address, ServerName: host}
		endpoints = append(endpoints, resolver.Endpoint{Addresses: []resolver.Address{own}})
	}
	return endpoints, nil
}

// still is a resolver of what never changes.
type still struct{}

// ResolveNow implements resolver.Resolver.
func (still) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements resolver.Resolver.
func (still) Close() {}
