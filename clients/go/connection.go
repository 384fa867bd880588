package tokenbroker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/health" // health checking, which the service config asks for
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"tokenbroker.example/tokenbroker/tokenbrokerpb"
)

const (
	userAgent       = "token-broker-client-go/0.1.0"
	keepaliveTime   = 30 * time.Second
	keepaliveAnswer = 10 * time.Second
	// Any replica will do that says it serves, and one that can't answer is no failure.
	serviceConfig = `{
		"loadBalancingConfig": [{"round_robin": {}}],
		"healthCheckConfig": {"serviceName": "tokenbroker.v1.TokenBroker"},
		"methodConfig": [{
			"name": [
				{"service": "tokenbroker.v1.TokenBroker", "method": "GetToken"},
				{"service": "tokenbroker.v1.TokenBroker", "method": "ReportRejectedToken"}
			],
			"retryPolicy": {
				"maxAttempts": 4, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2,
				"retryableStatusCodes": ["UNAVAILABLE"]
			}
		}]
	}`
)

// connection calls the broker, over a gRPC connection that is made anew when the credentials' files change. So a new
// certificate is shown from the next call on, and it is crypto/tls that judges the broker's, by no code of ours.
type connection struct {
	background context.Context
	target     string
	identity   identity
	pluginID   string
	timeout    time.Duration

	mutex sync.Mutex
	stamp string
	conn  *grpc.ClientConn
}

// connect opens nothing yet. The error says what can't be used.
func connect(
	background context.Context, target string, credentials Credentials, chosen settings,
) (*connection, error) {
	made := &connection{
		background: background, target: target, identity: credentials.identity(),
		pluginID: chosen.pluginID, timeout: chosen.timeout,
	}
	if list, ok := strings.CutPrefix(target, addressListScheme+":"); ok {
		if _, err := endpointsOf(list); err != nil { // gRPC would tell at the first call
			return nil, fmt.Errorf("tokenbroker: %w", err)
		}
	}
	if _, err := made.stub(); err != nil {
		return nil, fmt.Errorf("tokenbroker: %w", err)
	}
	return made, nil
}

func (c *connection) getToken(ctx context.Context, installID string) (*tokenbrokerpb.GetTokenResponse, error) {
	ctx, cancel := context.WithTimeout(outgoing(ctx), c.timeout)
	defer cancel()
	stub, err := c.stub()
	if err != nil {
		return nil, err
	}
	response, err := stub.GetToken(ctx, &tokenbrokerpb.GetTokenRequest{PluginId: c.pluginID, InstallId: installID})
	if err != nil {
		return nil, errorOf(err)
	}
	return response, nil
}

func (c *connection) report(ctx context.Context, installID string, generation int64) error {
	ctx, cancel := context.WithTimeout(outgoing(ctx), c.timeout)
	defer cancel()
	stub, err := c.stub()
	if err != nil {
		return err
	}
	request := &tokenbrokerpb.ReportRejectedTokenRequest{
		PluginId: c.pluginID, InstallId: installID, Generation: generation,
	}
	if _, err := stub.ReportRejectedToken(ctx, request); err != nil {
		return errorOf(err)
	}
	return nil
}

// watch opens a stream of WatchTokens, which has no deadline.
func (c *connection) watch(ctx context.Context) (tokenbrokerpb.TokenBroker_WatchTokensClient, error) {
	stub, err := c.stub()
	if err != nil {
		return nil, err
	}
	return stub.WatchTokens(ctx)
}

// close comes after the background has ended.
func (c *connection) close() error {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.conn == nil {
		return nil
	}
	conn := c.conn
	c.conn = nil
	return conn.Close()
}

// stub has the connection as the files are now. With bad ones the old one stays, until they change again.
func (c *connection) stub() (tokenbrokerpb.TokenBrokerClient, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.background.Err() != nil {
		return nil, ErrClosed
	}
	if stamp := c.identity.stamp(); c.conn == nil || stamp != c.stamp {
		conn, err := c.dial()
		switch {
		case err == nil:
			c.retire(c.conn)
			c.conn = conn
		case c.conn == nil:
			return nil, err
		default:
			slog.Warn("tokenbroker: the credentials changed and can't be used; the old ones stay", "error", err)
		}
		c.stamp = stamp
	}
	return tokenbrokerpb.NewTokenBrokerClient(c.conn), nil
}

// retire closes a connection once the calls on it have ended. A stream of WatchTokens on it is opened again on the new.
func (c *connection) retire(old *grpc.ClientConn) {
	if old == nil {
		return
	}
	ctx, cancel := context.WithTimeout(c.background, c.timeout)
	context.AfterFunc(ctx, func() {
		cancel()
		_ = old.Close()
	})
}

func (c *connection) dial() (*grpc.ClientConn, error) {
	transport, err := c.identity.transport()
	if err != nil {
		return nil, err
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithDisableServiceConfig(), // what a DNS record says: the client is as it is documented
		grpc.WithUserAgent(userAgent),
		grpc.WithResolvers(addressList{}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveAnswer}),
	}
	if perCall := c.identity.perCall(); perCall != nil {
		options = append(options, grpc.WithPerRPCCredentials(perCall))
	}
	return grpc.NewClient(c.target, options...)
}

// tokenOf returns the token of an answer that has just come, and how long it lives.
func tokenOf(answer *tokenbrokerpb.GetTokenResponse, installID string) (Token, time.Duration) {
	value, left := answer.GetAccessToken(), answer.GetExpiresIn().AsDuration()
	return Token{
		value:      &value,
		Type:       answer.GetTokenType(),
		Generation: answer.GetGeneration(),
		PluginID:   answer.GetPluginId(),
		InstallID:  installID,
		CompanyID:  answer.GetCompanyId(),
		Expiry:     time.Now().Add(left),
	}, left
}

// outgoing has the caller's trace and none of the caller's own metadata, which is meant for somebody else.
func outgoing(ctx context.Context) context.Context {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return metadata.NewOutgoingContext(ctx, metadata.New(carrier))
}
