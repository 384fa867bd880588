package tokenbroker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"tokenbroker.example/tokenbroker/tokenbrokerpb"
)

// senderFunc is what sends requests in these tests.
type senderFunc func(*http.Request) (*http.Response, error)

func (f senderFunc) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }

func answering(code int) *http.Response {
	return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader("an answer"))}
}

// generations gives a later generation upon each report.
func generations() *fakeBroker {
	broker := &fakeBroker{}
	broker.getToken = func(
		_ context.Context, request *tokenbrokerpb.GetTokenRequest,
	) (*tokenbrokerpb.GetTokenResponse, error) {
		return answerOf(request.GetInstallId(), 1+min(1, broker.reports.Load())), nil
	}
	return broker
}

// Each is a place where a mistake would give the token away.
func TestTokenGoesToOneOriginAlone(t *testing.T) {
	client := (&fakeBroker{}).client(t)
	var seen string
	sends := senderFunc(func(request *http.Request) (*http.Response, error) {
		seen = request.Header.Get("Authorization")
		return answering(http.StatusOK), nil
	})
	for address, want := range map[string]bool{
		"https://api.envoy.com/v1": true, "https://api.envoy.com:443/": true, "https://API.envoy.com/": true,
		"http://api.envoy.com/": false, "https://api.envoy.com:8443/": false, "https://api.envoy.com.example/": false,
		"https://envoy.com/": false, "https://api.envoy.com@elsewhere.example/": false, "http://api.envoy.com:443/": false,
	} {
		request := httptest.NewRequest(http.MethodGet, address, nil)
		if _, err := client.Transport("a", WithBase(sends)).RoundTrip(request); err != nil {
			t.Fatal(err)
		}
		if (seen != "") != want {
			t.Errorf("%s: %q", address, seen)
		}
		if request.Header.Get("Authorization") != "" {
			t.Error("the caller's own request was changed")
		}
	}
}

// A typing error in the origin must not send requests without a token, which Envoy would refuse for no visible reason.
func TestOriginThatIsNoneIsToldAndNothingIsSent(t *testing.T) {
	client := (&fakeBroker{}).client(t)
	sends := senderFunc(func(*http.Request) (*http.Response, error) {
		t.Error("sent")
		return answering(http.StatusOK), nil
	})
	for _, origin := range []string{"api.envoy.com", "", "https://", "ftp://api.envoy.com", "https://a b"} {
		transport := client.Transport("a", WithBase(sends), WithOrigin(origin))
		if _, err := transport.RoundTrip(httptest.NewRequest(http.MethodGet, EnvoyOrigin, nil)); err == nil {
			t.Errorf("%q: taken", origin)
		}
	}
}

// A crowd that meets a revoked token must not become a crowd at the broker.
func TestCrowdOfRejectionsIsOneNewToken(t *testing.T) {
	const crowd = 16
	broker := generations()
	client := broker.client(t)
	mustGet(t, client, "a")
	var refused sync.WaitGroup
	refused.Add(crowd)
	sends := senderFunc(func(request *http.Request) (*http.Response, error) {
		if request.Header.Get("Authorization") != "Bearer "+valueOf("a", 1) {
			return answering(http.StatusOK), nil
		}
		refused.Done()
		refused.Wait() // all are refused before the first of them reports it
		return answering(http.StatusUnauthorized), nil
	})
	transport := client.Transport("a", WithBase(sends))
	var all sync.WaitGroup
	for range crowd {
		all.Go(func() {
			response, err := transport.RoundTrip(httptest.NewRequest(http.MethodGet, EnvoyOrigin, nil))
			if err != nil || response.StatusCode != http.StatusOK {
				t.Errorf("%v, %v", response, err)
			}
		})
	}
	all.Wait()
	if calls := broker.calls.Load(); calls != 2 {
		t.Errorf("%d calls", calls)
	}
}

// The caller asked Envoy, and Envoy has answered: no error of ours may take the answer's place.
func TestAnswerStaysWhenTheBodyCanNotBeHadAgain(t *testing.T) {
	client := generations().client(t)
	sent := 0
	sends := senderFunc(func(*http.Request) (*http.Response, error) {
		sent++
		return answering(http.StatusUnauthorized), nil
	})
	request := httptest.NewRequest(http.MethodPost, EnvoyOrigin, strings.NewReader("once"))
	request.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("it is gone") }
	response, err := client.Transport("a", WithBase(sends)).RoundTrip(request)
	if err != nil || response.StatusCode != http.StatusUnauthorized || sent != 1 {
		t.Fatalf("%v, %v, sent %d times", response, err, sent)
	}
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "an answer" {
		t.Errorf("the answer's body is %q, %v", body, err)
	}
}

type closingBody struct {
	io.Reader
	isClosed bool
}

func (b *closingBody) Close() error {
	b.isClosed = true
	return nil
}

// A RoundTripper must close the body, upon errors, too (net/http); a file would stay open otherwise.
func TestBodyIsClosedWhenThereIsNoToken(t *testing.T) {
	broker := &fakeBroker{getToken: func(
		context.Context, *tokenbrokerpb.GetTokenRequest,
	) (*tokenbrokerpb.GetTokenResponse, error) {
		return nil, refusal(t, codes.NotFound, InstallNotFound)
	}}
	body := &closingBody{Reader: strings.NewReader("what was asked")}
	request := httptest.NewRequest(http.MethodPost, EnvoyOrigin, body)
	if _, err := broker.client(t).Transport("a").RoundTrip(request); !errors.Is(err, ErrInstallNotFound) {
		t.Error(err)
	}
	if !body.isClosed {
		t.Error("not closed")
	}
}
