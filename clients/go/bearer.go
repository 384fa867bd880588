package tokenbroker

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"sync"
)

// A projected token, with room; a file that is larger is none.
const maxTokenBytes = 32 << 10

// bearerToken is a token in a file. gRPC itself refuses to send it in the clear.
type bearerToken struct {
	file string

	mutex sync.Mutex
	stamp string
	token string
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b *bearerToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	token, err := b.read()
	if err != nil {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b *bearerToken) RequireTransportSecurity() bool { return true }

// read returns the token as the file has it now, or else the last good one.
func (b *bearerToken) read() (string, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	if stamp := stampOf(b.file); stamp != b.stamp {
		if token, err := tokenIn(b.file); err == nil {
			b.stamp, b.token = stamp, token
		} else if b.token == "" {
			return "", err
		}
	}
	return b.token, nil
}

func tokenIn(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxTokenBytes+1))
	if err != nil {
		return "", err
	}
	token := bytes.TrimSpace(text)
	if len(token) == 0 || len(text) > maxTokenBytes || bytes.ContainsFunc(token, isNotVisible) {
		return "", errors.New(path + " holds no bearer token")
	}
	return string(token), nil
}

// isNotVisible says whether a header's value may not hold it, nor a bearer token (RFC 6750, section 2.1).
func isNotVisible(r rune) bool { return r <= ' ' || r > '~' }
