package tokenbroker

import (
	"errors"
	"time"
)

// What options left out stand for.
const (
	DefaultTimeout     = 30 * time.Second
	DefaultMaxAge      = 5 * time.Minute
	DefaultMaxInstalls = 10_000
)

// Option changes a default of New.
type Option func(*settings)

type settings struct {
	pluginID    string
	timeout     time.Duration
	maxAge      time.Duration
	maxInstalls int
	watches     bool
	now         func() time.Duration
}

// WithPluginID names the app; it may be left out where the broker serves a single one.
func WithPluginID(pluginID string) Option { return func(s *settings) { s.pluginID = pluginID } }

// WithTimeout bounds one call to the broker, retries included.
func WithTimeout(timeout time.Duration) Option { return func(s *settings) { s.timeout = timeout } }

// WithMaxAge says how long a token is FRESH at most: how long another's deletion or report may go unnoticed.
func WithMaxAge(maxAge time.Duration) Option { return func(s *settings) { s.maxAge = maxAge } }

// WithMaxInstalls says how many installs are remembered; with 0, every token is asked for.
func WithMaxInstalls(maxInstalls int) Option {
	return func(s *settings) { s.maxInstalls = maxInstalls }
}

// WithWatch lets the broker tell of newer tokens and of those that must not be used, by a stream (WatchTokens).
func WithWatch() Option { return func(s *settings) { s.watches = true } }

func chosen(options []Option) (settings, error) {
	found := settings{
		timeout: DefaultTimeout, maxAge: DefaultMaxAge, maxInstalls: DefaultMaxInstalls, now: monotonic(),
	}
	for _, option := range options {
		option(&found)
	}
	switch {
	case found.timeout <= 0 || found.maxAge <= 0:
		return found, errors.New("tokenbroker: WithTimeout and WithMaxAge take more than 0")
	case found.maxInstalls < 0:
		return found, errors.New("tokenbroker: WithMaxInstalls takes 0 or more")
	}
	return found, nil
}
