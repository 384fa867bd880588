package tokenbroker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"tokenbroker.example/tokenbroker/tokenbrokerpb"
)

type outcome struct {
	token Token
	err   error
}

// asking asks in the background.
func asking(ctx context.Context, client *Client, installID string) <-chan outcome {
	asked := make(chan outcome, 1)
	go func() {
		token, err := client.Token(ctx, installID)
		asked <- outcome{token, err}
	}()
	return asked
}

// The race detector looks on: many callers of many installs, and one call for each of these.
func TestManyCallersMakeOneCallForEachInstall(t *testing.T) {
	broker := &fakeBroker{}
	client := broker.client(t)
	var all sync.WaitGroup
	for number := range 400 {
		all.Go(func() {
			install := fmt.Sprint(number % 4)
			token, err := client.Token(t.Context(), install)
			if err != nil || token.Reveal() != valueOf(install, 1) {
				t.Errorf("%v, %v", token, err)
			}
		})
	}
	all.Wait()
	if calls := broker.calls.Load(); calls != 4 {
		t.Errorf("%d calls", calls)
	}
}

// A caller may look into memory just before an answer lands, and begin a call just after.
func TestCallThatComesTooLateToBeNeededIsNotMade(t *testing.T) {
	broker := &fakeBroker{}
	client := broker.client(t)
	mustGet(t, client, "a")
	if landed := next(t, client.flight(t.Context(), "a")); landed.Err != nil {
		t.Error(landed.Err)
	}
	if calls := broker.calls.Load(); calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

// Whoever gives up gets the context's own error, as every Go caller expects, and leaves the call to the others.
func TestWhoGivesUpGetsTheContextsErrorAndLeavesTheCall(t *testing.T) {
	held := newGate()
	broker := &fakeBroker{getToken: holding(held)}
	client := broker.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	leaving := asking(ctx, client, "a")
	next(t, held.arrived)
	cancel()
	if left := next(t, leaving); left.err != context.Canceled {
		t.Error(left.err)
	}
	hurried, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	_, err := client.Token(hurried, "a")
	var told *Error
	if !errors.As(err, &told) || told.Reason != DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	close(held.open)
	mustGet(t, client, "a")
	if calls := broker.calls.Load(); calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

// The call's own deadline is nobody's context: a caller that looks for its own must not find it.
func TestDeadlineOfTheCallIsNotTheCallers(t *testing.T) {
	broker := &fakeBroker{getToken: holding(newGate())}
	client := broker.client(t, WithTimeout(50*time.Millisecond))
	_, err := client.Token(t.Context(), "a")
	var told *Error
	if !errors.As(err, &told) || told.Reason != DeadlineExceeded || errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A service that is itself called by gRPC has metadata for others in its context; it is none of the broker's business.
func TestCallersOwnMetadataDoesNotGoAlong(t *testing.T) {
	seen := make(chan metadata.MD, 1)
	broker := &fakeBroker{getToken: func(
		ctx context.Context, request *tokenbrokerpb.GetTokenRequest,
	) (*tokenbrokerpb.GetTokenResponse, error) {
		found, _ := metadata.FromIncomingContext(ctx)
		seen <- found
		return answerOf(request.GetInstallId(), 1), nil
	}}
	client := broker.client(t)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer somebody's")
	if _, err := client.Token(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if found := next(t, seen).Get("authorization"); len(found) != 0 {
		t.Errorf("%q went along", found)
	}
}

// Nobody may be left waiting, nor be served by a client that is no more.
func TestClosedClientEndsWhatIsUnderWayAndGivesNothing(t *testing.T) {
	held := newGate()
	broker := &fakeBroker{getToken: holding(held)}
	client := broker.client(t)
	waiting := asking(context.Background(), client, "a")
	next(t, held.arrived)
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if ended := next(t, waiting); ended.err != ErrClosed {
		t.Error(ended.err)
	}
	if _, err := client.Token(t.Context(), "a"); err != ErrClosed {
		t.Error(err)
	}
	if err := client.Reject(t.Context(), Token{InstallID: "a"}); err != ErrClosed {
		t.Error(err)
	}
	if err := client.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

// A STALE token is good, and nobody waits for a better one; but there must be a better one soon.
func TestStaleTokenIsServedWhileOneRefreshGoesOnBehind(t *testing.T) {
	clock, held := &handClock{}, newGate()
	broker := &fakeBroker{}
	broker.getToken = func(
		ctx context.Context, request *tokenbrokerpb.GetTokenRequest,
	) (*tokenbrokerpb.GetTokenResponse, error) {
		if broker.calls.Load() == 1 {
			return answerOf(request.GetInstallId(), 1), nil
		}
		if err := held.pass(ctx); err != nil {
			return nil, err
		}
		return answerOf(request.GetInstallId(), 2), nil
	}
	client := broker.client(t, withClock(clock))
	mustGet(t, client, "a")
	clock.advance(DefaultMaxAge)
	for range 10 {
		if token := mustGet(t, client, "a"); token.Generation != 1 {
			t.Fatalf("generation %d", token.Generation)
		}
	}
	next(t, held.arrived)
	behind := client.flight(t.Context(), "a") // joins it
	close(held.open)
	next(t, behind)
	if token := mustGet(t, client, "a"); token.Generation != 2 || broker.calls.Load() != 2 {
		t.Errorf("generation %d after %d calls", token.Generation, broker.calls.Load())
	}
}

// An answer on its way when the token was rejected holds that very token: it must be neither kept nor waited for.
func TestAnswerFromBeforeARejectionDoesNotBringTheTokenBack(t *testing.T) {
	clock, held := &handClock{}, newGate()
	broker := &fakeBroker{}
	broker.getToken = func(
		ctx context.Context, request *tokenbrokerpb.GetTokenRequest,
	) (*tokenbrokerpb.GetTokenResponse, error) {
		switch broker.calls.Load() {
		case 1:
			return answerOf(request.GetInstallId(), 1), nil
		case 2:
			return answerOf(request.GetInstallId(), 1), held.pass(ctx)
		default:
			return answerOf(request.GetInstallId(), 2), nil
		}
	}
	client := broker.client(t, withClock(clock))
	rejected := mustGet(t, client, "a")
	clock.advance(DefaultMaxAge)
	mustGet(t, client, "a") // begins a refresh
	overtaken := client.flight(t.Context(), "a")
	next(t, held.arrived)
	clock.advance(1)
	if err := client.Reject(t.Context(), rejected); err != nil {
		t.Fatal(err)
	}
	if token := mustGet(t, client, "a"); token.Generation != 2 {
		t.Errorf("waited for generation %d", token.Generation)
	}
	close(held.open)
	next(t, overtaken)
	if token := mustGet(t, client, "a"); token.Generation != 2 || broker.calls.Load() != 3 {
		t.Errorf("generation %d after %d calls", token.Generation, broker.calls.Load())
	}
}

// Without a report the broker would only give the same token again; and if the broker is away, none.
func TestTokenStaysWhenItsReportFails(t *testing.T) {
	broker := &fakeBroker{report: func(*tokenbrokerpb.ReportRejectedTokenRequest) error {
		return refusal(t, codes.Internal, Internal)
	}}
	client := broker.client(t)
	token := mustGet(t, client, "a")
	if err := client.Reject(t.Context(), token); !errors.Is(err, &Error{Reason: Internal}) {
		t.Error(err)
	}
	mustGet(t, client, "a")
	if calls := broker.calls.Load(); calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

// Whoever is told while reporting that the install is gone must not serve its token on.
func TestDefiniteAnswerToAReportForgets(t *testing.T) {
	broker := &fakeBroker{report: func(*tokenbrokerpb.ReportRejectedTokenRequest) error {
		return refusal(t, codes.NotFound, InstallNotFound)
	}}
	client := broker.client(t)
	token := mustGet(t, client, "a")
	if err := client.Reject(t.Context(), token); !errors.Is(err, ErrInstallNotFound) {
		t.Error(err)
	}
	mustGet(t, client, "a")
	if calls := broker.calls.Load(); calls != 2 {
		t.Errorf("%d calls", calls)
	}
}

// Some want every token from the broker: a benchmark, or a tool that runs once.
func TestClientThatRemembersNoneAsksForEach(t *testing.T) {
	broker := &fakeBroker{}
	client := broker.client(t, WithMaxInstalls(0))
	mustGet(t, client, "a")
	mustGet(t, client, "a")
	if calls := broker.calls.Load(); calls != 2 {
		t.Errorf("%d calls", calls)
	}
}

// A mistake in the options should show at the start, and not as a client that asks without end.
func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, option := range map[string]Option{
		"no time": WithTimeout(0), "no age": WithMaxAge(-time.Second), "less than none": WithMaxInstalls(-1),
	} {
		if _, err := New("127.0.0.1:1", Insecure(), option); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := New("127.0.0.1:1", nil); err == nil {
		t.Error("no credentials: taken")
	}
}

// What speaks oauth2 gets the same token, and its end, so that it does not keep it longer.
func TestTokenSourceGivesTheSameToken(t *testing.T) {
	client := (&fakeBroker{}).client(t)
	token := mustGet(t, client, "a")
	found, err := client.TokenSource(t.Context(), "a").Token()
	if err != nil {
		t.Fatal(err)
	}
	if found.AccessToken != token.Reveal() || found.Type() != "Bearer" || !found.Expiry.Equal(token.Expiry) {
		t.Error("another token")
	}
}
