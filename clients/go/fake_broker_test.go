package tokenbroker

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"tokenbroker.example/tokenbroker/tokenbrokerpb"
)

const loopback = "127.0.0.1:0"

// fakeBroker is a gRPC server that answers as a test wants it to; left alone, with generation 1 of every install.
type fakeBroker struct {
	tokenbrokerpb.UnimplementedTokenBrokerServer
	getToken func(context.Context, *tokenbrokerpb.GetTokenRequest) (*tokenbrokerpb.GetTokenResponse, error)
	report   func(*tokenbrokerpb.ReportRejectedTokenRequest) error
	watch    func(stream tokenbrokerpb.TokenBroker_WatchTokensServer) error

	calls, reports atomic.Int64
}

func (f *fakeBroker) GetToken(
	ctx context.Context, request *tokenbrokerpb.GetTokenRequest,
) (*tokenbrokerpb.GetTokenResponse, error) {
	f.calls.Add(1)
	if f.getToken == nil {
		return answerOf(request.GetInstallId(), 1), nil
	}
	return f.getToken(ctx, request)
}

func (f *fakeBroker) ReportRejectedToken(
	_ context.Context, request *tokenbrokerpb.ReportRejectedTokenRequest,
) (*tokenbrokerpb.ReportRejectedTokenResponse, error) {
	f.reports.Add(1)
	if f.report != nil {
		if err := f.report(request); err != nil {
			return nil, err
		}
	}
	return &tokenbrokerpb.ReportRejectedTokenResponse{Invalidated: true}, nil
}

func (f *fakeBroker) WatchTokens(stream tokenbrokerpb.TokenBroker_WatchTokensServer) error {
	if f.watch == nil {
		return f.UnimplementedTokenBrokerServer.WatchTokens(stream)
	}
	return f.watch(stream)
}

// listen serves until the test ends, and returns where.
func (f *fakeBroker) listen(t *testing.T, address string, options ...grpc.ServerOption) string {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	tokenbrokerpb.RegisterTokenBrokerServer(server, f)
	wellness := health.NewServer()
	wellness.SetServingStatus(tokenbrokerpb.TokenBroker_ServiceDesc.ServiceName, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(server, wellness)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

// client serves, and returns a client of it.
func (f *fakeBroker) client(t *testing.T, options ...Option) *Client {
	t.Helper()
	client, err := New(f.listen(t, loopback), Insecure(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func valueOf(installID string, generation int64) string {
	return fmt.Sprintf("token %d of %s", generation, installID)
}

func answerOf(installID string, generation int64) *tokenbrokerpb.GetTokenResponse {
	return &tokenbrokerpb.GetTokenResponse{
		AccessToken: valueOf(installID, generation), TokenType: "Bearer", Generation: generation, InstallId: installID,
		ExpiresIn: durationpb.New(time.Hour),
	}
}

// refusal is an error as the broker sends it.
func refusal(t *testing.T, code codes.Code, reason Reason) error {
	t.Helper()
	told, err := status.New(code, "refused").WithDetails(
		&errdetails.ErrorInfo{Domain: errorDomain, Reason: string(reason)})
	if err != nil {
		t.Fatal(err)
	}
	return told.Err()
}

// gate holds calls until it is opened.
type gate struct{ arrived, open chan struct{} }

func newGate() gate { return gate{arrived: make(chan struct{}, 100), open: make(chan struct{})} }

func (g gate) pass(ctx context.Context) error {
	g.arrived <- struct{}{}
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// holding is a GetToken behind a gate.
func holding(held gate) func(context.Context, *tokenbrokerpb.GetTokenRequest) (*tokenbrokerpb.GetTokenResponse, error) {
	return func(ctx context.Context, request *tokenbrokerpb.GetTokenRequest) (*tokenbrokerpb.GetTokenResponse, error) {
		if err := held.pass(ctx); err != nil {
			return nil, err
		}
		return answerOf(request.GetInstallId(), 1), nil
	}
}

// handClock is moved by hand, by any goroutine.
type handClock struct{ at atomic.Int64 }

func (c *handClock) now() time.Duration         { return time.Duration(c.at.Load()) }
func (c *handClock) set(at time.Duration)       { c.at.Store(int64(at)) }
func (c *handClock) advance(much time.Duration) { c.at.Add(int64(much)) }

func withClock(clock *handClock) Option { return func(s *settings) { s.now = clock.now } }

func mustGet(t *testing.T, client *Client, installID string) Token {
	t.Helper()
	token, err := client.Token(t.Context(), installID)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
