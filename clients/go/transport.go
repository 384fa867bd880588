package tokenbroker

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// EnvoyOrigin is where tokens are sent unless WithOrigin says otherwise.
const EnvoyOrigin = "https://api.envoy.com"

const (
	authorization = "Authorization"
	// So much of a refused answer is read, so that its connection can be used again.
	maxDrainedBytes = 64 << 10
)

// TransportOption changes a default of Transport.
type TransportOption func(*transport)

// WithOrigin says where the token is sent: scheme, host and port.
func WithOrigin(origin string) TransportOption { return func(t *transport) { t.origin = origin } }

// WithBase says what sends the requests; http.DefaultTransport otherwise.
func WithBase(base http.RoundTripper) TransportOption { return func(t *transport) { t.base = base } }

// Transport returns an http.RoundTripper that puts the install's token on requests to Envoy, and on no other: redirects
// to elsewhere go without. Upon a 401 it reports the token and sends the request once more, if its body can be sent
// again (GetBody) and there is a newer token; else the 401 is the answer. The error is that of Client.Token, or says
// that the origin is none.
func (c *Client) Transport(installID string, options ...TransportOption) http.RoundTripper {
	made := &transport{client: c, installID: installID, origin: EnvoyOrigin, base: http.DefaultTransport}
	for _, option := range options {
		option(made)
	}
	if origin, err := url.Parse(made.origin); err == nil {
		made.scheme, made.address = origin.Scheme, addressOf(origin)
	}
	return made
}

type transport struct {
	client          *Client
	installID       string
	origin          string
	scheme, address string
	base            http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if t.address == "" {
		closeBody(request)
		return nil, fmt.Errorf("tokenbroker: %q is no origin, such as %s", t.origin, EnvoyOrigin)
	}
	if request.URL == nil || request.URL.Scheme != t.scheme || addressOf(request.URL) != t.address {
		return t.base.RoundTrip(request)
	}
	token, err := t.client.Token(request.Context(), t.installID)
	if err != nil {
		closeBody(request)
		return nil, err
	}
	response, err := t.base.RoundTrip(with(token, request))
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return response, err
	}
	newer, ok := t.client.replace(request.Context(), token, canBeSentAgain(request))
	if !ok {
		return response, nil
	}
	again := with(newer, request)
	if request.GetBody != nil {
		if again.Body, err = request.GetBody(); err != nil {
			return response, nil // the 401 is the answer
		}
	}
	_, _ = io.CopyN(io.Discard, response.Body, maxDrainedBytes)
	_ = response.Body.Close()
	return t.base.RoundTrip(again)
}

// replace finds a token newer than one that Envoy has refused: in memory, or, once that is reported, at the broker.
func (c *Client) replace(ctx context.Context, refused Token, isWanted bool) (Token, bool) {
	if known, ok := c.memory.newer(refused.InstallID, refused.Generation); ok {
		return known, isWanted
	}
	if err := c.Reject(ctx, refused); err != nil || !isWanted {
		return Token{}, false
	}
	asked, err := c.Token(ctx, refused.InstallID)
	return asked, err == nil && asked.Generation > refused.Generation
}

// addressOf returns HOST:PORT, or nothing where there is no host or no port to be known.
func addressOf(place *url.URL) string {
	port := place.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[place.Scheme]
	}
	if place.Hostname() == "" || port == "" {
		return ""
	}
	return net.JoinHostPort(strings.ToLower(place.Hostname()), port)
}

// with returns the request with the token: a RoundTripper must not change what it is given.
func with(token Token, request *http.Request) *http.Request {
	made := request.Clone(request.Context())
	made.Header.Set(authorization, token.Authorization())
	return made
}

func canBeSentAgain(request *http.Request) bool {
	return request.Body == nil || request.Body == http.NoBody || request.GetBody != nil
}

func closeBody(request *http.Request) {
	if request.Body != nil {
		_ = request.Body.Close()
	}
}
