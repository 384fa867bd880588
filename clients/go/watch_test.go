package tokenbroker

import (
	"context"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"tokenbroker.example/tokenbroker/tokenbrokerpb"
)

// What a test waits for comes much sooner, or never.
const patience = 10 * time.Second

// watched is a broker whose streams, and what comes on them, a test sees and answers.
type watched struct {
	*fakeBroker
	streams  chan tokenbrokerpb.TokenBroker_WatchTokensServer
	requests chan *tokenbrokerpb.WatchTokensRequest
	ended    chan struct{}
}

func newWatched() watched {
	broker := watched{
		fakeBroker: &fakeBroker{},
		streams:    make(chan tokenbrokerpb.TokenBroker_WatchTokensServer, 10),
		requests:   make(chan *tokenbrokerpb.WatchTokensRequest, 100),
		ended:      make(chan struct{}, 10),
	}
	broker.watch = func(stream tokenbrokerpb.TokenBroker_WatchTokensServer) error {
		defer func() { broker.ended <- struct{}{} }()
		broker.streams <- stream
		for {
			request, err := stream.Recv()
			if err != nil {
				return err
			}
			broker.requests <- request
		}
	}
	return broker
}

func sendAll(
	t *testing.T, stream tokenbrokerpb.TokenBroker_WatchTokensServer, events ...*tokenbrokerpb.WatchTokensResponse,
) {
	t.Helper()
	for _, event := range events {
		if err := stream.Send(event); err != nil {
			t.Fatal(err)
		}
	}
}

func heartbeat(within time.Duration) *tokenbrokerpb.WatchTokensResponse {
	return &tokenbrokerpb.WatchTokensResponse{Event: &tokenbrokerpb.WatchTokensResponse_Heartbeat{
		Heartbeat: &tokenbrokerpb.WatchTokensHeartbeat{NextWithin: durationpb.New(within)},
	}}
}

func pushed(installID string, generation int64) *tokenbrokerpb.WatchTokensResponse {
	return &tokenbrokerpb.WatchTokensResponse{
		Event: &tokenbrokerpb.WatchTokensResponse_Token{Token: answerOf(installID, generation)},
	}
}

func unavailable(installID string, reason tokenbrokerpb.ErrorReason) *tokenbrokerpb.WatchTokensResponse {
	return &tokenbrokerpb.WatchTokensResponse{Event: &tokenbrokerpb.WatchTokensResponse_Unavailable{
		Unavailable: &tokenbrokerpb.WatchTokensUnavailable{
			InstallId: installID, Failure: &tokenbrokerpb.TokenFailure{Reason: reason},
		},
	}}
}

// next is what comes on a channel, soon.
func next[T any](t *testing.T, channel <-chan T) T {
	t.Helper()
	select {
	case came := <-channel:
		return came
	case <-time.After(patience):
		t.Fatal("it never came")
		panic("unreachable")
	}
}

// until waits for what the client's own goroutine does with an event.
func until(t *testing.T, happened func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !happened() {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatal("it never happened")
		}
	}
}

func (w watched) subscribed(t *testing.T) *tokenbrokerpb.WatchTokensSubscribe {
	t.Helper()
	request := next(t, w.requests)
	if request.GetSubscribe() == nil {
		t.Fatalf("no subscription: %v", request)
	}
	return request.GetSubscribe()
}

// A connection may die without a word; whoever waits for it would never hear of anything again.
func TestSilentStreamIsOpenedAgainWithTheGenerationsThatAreKnown(t *testing.T) {
	broker := newWatched()
	client := broker.client(t, WithWatch(), WithPluginID("4242"))
	mustGet(t, client, "a")
	first := next(t, broker.streams)
	asked := broker.subscribed(t)
	if asked.GetInstallId() != "a" || asked.GetKnownGeneration() != 1 || asked.GetPluginId() != "4242" {
		t.Fatalf("%v", asked)
	}
	sendAll(t, first, pushed("a", 7), heartbeat(10*time.Millisecond))
	next(t, broker.ended)
	next(t, broker.streams)
	if asked := broker.subscribed(t); asked.GetInstallId() != "a" || asked.GetKnownGeneration() != 7 {
		t.Errorf("%v", asked)
	}
}

// A heartbeat that says nothing of the next must not end the stream at once, and the next one, and so on.
func TestHeartbeatWithoutATimeChangesNothing(t *testing.T) {
	broker := newWatched()
	client := broker.client(t, WithWatch())
	mustGet(t, client, "a")
	stream := next(t, broker.streams)
	sendAll(t, stream, heartbeat(0), pushed("a", 2))
	until(t, func() bool { return mustGet(t, client, "a").Generation == 2 })
	if stream.Context().Err() != nil {
		t.Error("the stream has ended")
	}
}

// An install that the broker watches no more would be watched no more for ever, though the broker says it may be.
func TestInstallThatIsWatchedNoMoreIsSubscribedWithItsNextToken(t *testing.T) {
	for _, reason := range []tokenbrokerpb.ErrorReason{
		tokenbrokerpb.ErrorReason_ERROR_REASON_INSTALL_NOT_FOUND, tokenbrokerpb.ErrorReason_ERROR_REASON_OVERLOADED,
		tokenbrokerpb.ErrorReason_ERROR_REASON_INVALID_FIELD,
	} {
		broker, clock := newWatched(), &handClock{}
		client := broker.client(t, WithWatch(), withClock(clock))
		mustGet(t, client, "a")
		stream := next(t, broker.streams)
		broker.subscribed(t)
		sendAll(t, stream, unavailable("a", reason), pushed("a", 2))
		until(t, func() bool { return client.memory.generation("a") == 2 }) // both were heard
		clock.advance(2 * time.Hour)
		mustGet(t, client, "a")
		if asked := broker.subscribed(t); asked.GetInstallId() != "a" {
			t.Errorf("after %v: %v", reason, asked)
		}
	}
}

// Envoy has rejected it, as another caller found out; a newer one follows by itself.
func TestTokenOfWhichTheBrokerSaysThatEnvoyRejectedItIsNotServed(t *testing.T) {
	broker := newWatched()
	client := broker.client(t, WithWatch())
	mustGet(t, client, "a")
	stream := next(t, broker.streams)
	sendAll(t, stream, unavailable("a", tokenbrokerpb.ErrorReason_ERROR_REASON_PROVIDER_UNAVAILABLE))
	until(t, func() bool { _, ok := client.memory.fresh("a"); return !ok })
	sendAll(t, stream, pushed("a", 2))
	until(t, func() bool { _, ok := client.memory.newer("a", 1); return ok })
	if calls := broker.calls.Load(); calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

// A database that is away for a moment takes nobody's token.
func TestTroubleOfTheBrokersLeavesTheToken(t *testing.T) {
	broker := newWatched()
	client := broker.client(t, WithWatch())
	mustGet(t, client, "a")
	mustGet(t, client, "b")
	stream := next(t, broker.streams)
	sendAll(t, stream, unavailable("a", tokenbrokerpb.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE), pushed("b", 2))
	until(t, func() bool { return client.memory.generation("b") == 2 })
	if _, ok := client.memory.fresh("a"); !ok {
		t.Error("it is gone")
	}
}

// What was evicted while its news was on the way must not push out what is used.
func TestNewsOfAnInstallThatIsNotRememberedIsLeftAside(t *testing.T) {
	broker := newWatched()
	client := broker.client(t, WithWatch())
	mustGet(t, client, "a")
	stream := next(t, broker.streams)
	sendAll(t, stream, pushed("never asked for", 2), pushed("a", 2))
	until(t, func() bool { return client.memory.generation("a") == 2 })
	if client.memory.find("never asked for") != nil {
		t.Error("it is remembered")
	}
}

// A service that closes its client must be left with nothing that runs.
func TestCloseEndsTheStream(t *testing.T) {
	broker := newWatched()
	client := broker.client(t, WithWatch())
	mustGet(t, client, "a")
	next(t, broker.streams)
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	select {
	case <-client.watch.done:
	default:
		t.Error("the watch still runs")
	}
	next(t, broker.ended)
}
