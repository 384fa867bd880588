// Command conformance is the Go client as clients/conformance plays it: commands on stdin, answers on stdout.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/grpc/codes"

	"tokenbroker.example/tokenbroker"
)

const maxLineBytes = 1 << 20

type command struct {
	ID             int      `json:"id"`
	Do             string   `json:"do"`
	Client         string   `json:"client"`
	Target         string   `json:"target"`
	Install        string   `json:"install"`
	Of             int      `json:"of"`
	TimeoutSeconds *float64 `json:"timeout_seconds"`
	Traceparent    string   `json:"traceparent"`

	PluginID        string   `json:"plugin_id"`
	MaxAgeSeconds   *float64 `json:"max_age_seconds"`
	MaxInstalls     *int     `json:"max_installs"`
	Watch           bool     `json:"watch"`
	CAFile          string   `json:"ca_file"`
	CertificateFile string   `json:"certificate_file"`
	KeyFile         string   `json:"key_file"`
	TokenFile       string   `json:"token_file"`
	Insecure        bool     `json:"insecure"`

	Method     string `json:"method"`
	URL        string `json:"url"`
	Origin     string `json:"origin"`
	Body       string `json:"body"`
	Replayable *bool  `json:"replayable"`
}

type answer map[string]any

type adapter struct {
	mutex   sync.Mutex
	out     *json.Encoder
	clients map[string]*tokenbroker.Client
	cancels map[int]context.CancelFunc
}

func main() {
	adapter := &adapter{
		out: json.NewEncoder(os.Stdout), clients: map[string]*tokenbroker.Client{}, cancels: map[int]context.CancelFunc{},
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, maxLineBytes)
	for lines.Scan() {
		var asked command
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			slog.Error("no command", "error", err)
			os.Exit(1)
		}
		ctx, cancel := context.WithCancel(context.Background())
		adapter.mutex.Lock()
		adapter.cancels[asked.ID] = cancel
		adapter.mutex.Unlock()
		go adapter.do(ctx, asked)
	}
}

func (a *adapter) do(ctx context.Context, asked command) {
	acts := map[string]func(context.Context, command) (answer, error){
		"open": a.open, "get": a.get, "cancel": a.cancel, "request": a.request, "describe": a.describe, "close": a.close,
	}
	said, err := acts[asked.Do](ctx, asked)
	if err != nil {
		said = told(err)
	}
	said["id"] = asked.ID
	a.mutex.Lock()
	defer a.mutex.Unlock()
	_ = a.out.Encode(said)
}

func told(err error) answer {
	var broker *tokenbroker.Error
	switch {
	case errors.Is(err, context.Canceled):
		return answer{"cancelled": true}
	case errors.As(err, &broker):
		said := answer{"reason": broker.Reason, "code": nameOf(broker.Code)}
		if broker.RetryAfter > 0 {
			said["retry_after_seconds"] = broker.RetryAfter.Seconds()
		}
		return answer{"error": said}
	default:
		slog.Warn("a mistake of the configuration", "error", err)
		return answer{"error": answer{"reason": "CONFIGURATION"}}
	}
}

// nameOf has the code's name as the other languages spell it.
func nameOf(code codes.Code) string {
	var name strings.Builder
	for place, letter := range code.String() {
		if place > 0 && letter >= 'A' && letter <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(letter)
	}
	return strings.ToUpper(name.String())
}

func (a *adapter) open(_ context.Context, asked command) (answer, error) {
	options := []tokenbroker.Option{tokenbroker.WithPluginID(asked.PluginID)}
	if asked.TimeoutSeconds != nil {
		options = append(options, tokenbroker.WithTimeout(seconds(*asked.TimeoutSeconds)))
	}
	if asked.MaxAgeSeconds != nil {
		options = append(options, tokenbroker.WithMaxAge(seconds(*asked.MaxAgeSeconds)))
	}
	if asked.MaxInstalls != nil {
		options = append(options, tokenbroker.WithMaxInstalls(*asked.MaxInstalls))
	}
	if asked.Watch {
		options = append(options, tokenbroker.WithWatch())
	}
	files := tokenbroker.TLS{
		CAFile: asked.CAFile, CertificateFile: asked.CertificateFile, KeyFile: asked.KeyFile, TokenFile: asked.TokenFile,
	}
	var credentials tokenbroker.Credentials = files
	if asked.Insecure {
		if files != (tokenbroker.TLS{}) {
			return nil, errors.New("insecure takes no files: a bearer token is never sent in the clear")
		}
		credentials = tokenbroker.Insecure()
	}
	client, err := tokenbroker.New(asked.Target, credentials, options...)
	if err != nil {
		return nil, err
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.clients[asked.Client] = client
	return answer{}, nil
}

func (a *adapter) client(asked command) *tokenbroker.Client {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.clients[asked.Client]
}

func (a *adapter) get(ctx context.Context, asked command) (answer, error) {
	if asked.TimeoutSeconds != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, seconds(*asked.TimeoutSeconds))
		defer cancel()
	}
	ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": asked.Traceparent})
	token, err := a.client(asked).Token(ctx, asked.Install)
	if err != nil {
		return nil, err
	}
	source, err := a.client(asked).TokenSource(ctx, asked.Install).Token()
	if err != nil || source.AccessToken != token.Reveal() {
		return nil, fmt.Errorf("the TokenSource has another token: %w", err)
	}
	return answer{"token": token.Reveal(), "generation": token.Generation, "company": token.CompanyID}, nil
}

func (a *adapter) cancel(_ context.Context, asked command) (answer, error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.cancels[asked.Of]()
	return answer{}, nil
}

func (a *adapter) request(ctx context.Context, asked command) (answer, error) {
	var body io.Reader
	if asked.Body != "" {
		body = strings.NewReader(asked.Body)
	}
	if asked.Replayable != nil && !*asked.Replayable {
		body = io.NopCloser(body) // hides what it is, so that net/http has no GetBody
	}
	request, err := http.NewRequestWithContext(ctx, asked.Method, asked.URL, body)
	if err != nil {
		return nil, err
	}
	browser := http.Client{Transport: a.client(asked).Transport(asked.Install, tokenbroker.WithOrigin(asked.Origin))}
	response, err := browser.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return answer{"status": response.StatusCode, "body": string(text)}, err
}

func (a *adapter) describe(ctx context.Context, asked command) (answer, error) {
	client := a.client(asked)
	token, err := client.Token(ctx, asked.Install)
	if err != nil {
		return nil, err
	}
	var lines strings.Builder
	slog.New(slog.NewTextHandler(&lines, nil)).Info("a line", "token", token, "all", []any{token, &token})
	slog.New(slog.NewJSONHandler(&lines, nil)).Info("a line", "token", token, "all", []any{token, &token})
	document, err := json.Marshal(map[string]any{"token": token, "pointer": &token})
	texts := []string{lines.String(), string(document), token.String(), token.GoString()}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(format, token), fmt.Sprintf(format, &token), fmt.Sprintf(format, []any{token}))
	}
	return answer{"texts": append(texts, fmt.Sprintf("%v", client))}, err
}

func (a *adapter) close(_ context.Context, asked command) (answer, error) {
	return answer{}, a.client(asked).Close()
}

func seconds(number float64) time.Duration { return time.Duration(number * float64(time.Second)) }
