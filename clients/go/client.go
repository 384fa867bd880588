// Package tokenbroker is a client of the Envoy Token Broker: one line yields a valid access token, mostly out of
// memory.
//
//	client, err := tokenbroker.New("dns:///tokens:50051", tokenbroker.TLS{CAFile: "ca.pem", TokenFile: "token"})
//	…
//	token, err := client.Token(ctx, "1000000")
//
// What it does is told in clients/README.md, and held to by clients/conformance.
package tokenbroker

import (
	"context"
	"errors"
	"math"

	"golang.org/x/sync/singleflight"
)

// Client has the tokens of one broker, for any number of goroutines.
type Client struct {
	target     string
	memory     *memory
	connection *connection
	flights    singleflight.Group
	watch      *watch
	background context.Context // ends with the client
	stop       context.CancelFunc
}

// New returns a client of the broker at target, a gRPC name: "dns:///tokens:50051", or
// "ipv4:10.0.0.1:50051,10.0.0.2:50051". Credentials are TLS, or Insecure. It opens nothing before the first call. The
// error says what is wrong with the target, the options or the credentials' files. Close the client when it is done
// with.
func New(target string, credentials Credentials, options ...Option) (*Client, error) {
	chosen, err := chosen(options)
	if err != nil {
		return nil, err
	}
	if credentials == nil {
		return nil, errors.New("tokenbroker: no credentials")
	}
	background, stop := context.WithCancel(context.Background())
	connection, err := connect(background, target, credentials, chosen)
	if err != nil {
		stop()
		return nil, err
	}
	client := &Client{
		target: target, connection: connection, background: background, stop: stop,
		memory: newMemory(chosen.maxInstalls, chosen.maxAge, chosen.now),
	}
	if chosen.watches {
		client.watch = newWatch(background, connection, client.memory)
	}
	return client, nil
}

// Token returns a token of this install that is valid now. A FRESH one comes from memory; a STALE one, too, and a
// refresh begins behind it; any other is waited for, until ctx ends.
//
// The error is an *Error, ErrClosed, or the context's if that was cancelled.
func (c *Client) Token(ctx context.Context, installID string) (Token, error) {
	if token, ok := c.memory.fresh(installID); ok {
		return token, nil
	}
	token, isDue, ok := c.memory.usable(installID)
	if isDue {
		c.flight(ctx, installID)
	}
	if ok {
		return token, nil
	}
	if ctx.Err() != nil {
		return Token{}, gaveUp(ctx)
	}
	select {
	case landed := <-c.flight(ctx, installID):
		if landed.Err != nil {
			return Token{}, landed.Err
		}
		return landed.Val.(Token), nil
	case <-ctx.Done():
		return Token{}, gaveUp(ctx)
	}
}

// Reject tells the broker that Envoy answered 401 to this token, and forgets it: the next Token is another call. If the
// report fails, the token stays. Transport does all of that by itself.
//
// The error is as that of Token.
func (c *Client) Reject(ctx context.Context, token Token) error {
	err := c.connection.report(ctx, token.InstallID, token.Generation)
	switch {
	case err == nil:
		if c.memory.refuse(token.InstallID, token.Generation) {
			c.flights.Forget(token.InstallID) // it began before the broker knew
		}
		return nil
	case ctx.Err() != nil:
		return gaveUp(ctx)
	case c.background.Err() != nil:
		return ErrClosed
	}
	c.forgetIfDefinite(token.InstallID, err)
	return err
}

// Close ends what is under way, and forgets everything.
func (c *Client) Close() error {
	c.stop()
	if c.watch != nil {
		c.watch.wait()
	}
	c.memory.close()
	return c.connection.close()
}

// String names the target.
func (c *Client) String() string { return "tokenbroker.Client(" + c.target + ")" }

// flight is the one call that is under way for an install, or a new one. It belongs to nobody: whoever waits may go.
func (c *Client) flight(ctx context.Context, installID string) <-chan singleflight.Result {
	return c.flights.DoChan(installID, func() (any, error) {
		// The caller's trace goes along, the caller's end does not. The client's does.
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(c.background, cancel)()
		return c.ask(ctx, installID)
	})
}

func (c *Client) ask(ctx context.Context, installID string) (Token, error) {
	if token, ok := c.memory.fresh(installID); ok {
		return token, nil // another flight has landed since this caller looked
	}
	begun := c.memory.now()
	answer, err := c.connection.getToken(ctx, installID)
	if err == nil {
		token, left := tokenOf(answer, installID)
		return c.memory.put(token, left, begun), nil
	}
	if c.background.Err() != nil {
		return Token{}, ErrClosed
	}
	if !c.forgetIfDefinite(installID, err) {
		c.memory.putOff(installID, retryAfter(err))
	}
	return Token{}, err
}

// forgetIfDefinite forgets the token of an install of which the broker says that it must not be used.
func (c *Client) forgetIfDefinite(installID string, err error) bool {
	var told *Error
	if !errors.As(err, &told) || !told.Reason.isDefinite() {
		return false
	}
	c.memory.refuse(installID, math.MaxInt64)
	return true
}
