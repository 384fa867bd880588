package tokenbroker

import (
	"context"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"tokenbroker.example/tokenbroker/tokenbrokerpb"
)

const (
	firstPause   = 50 * time.Millisecond
	longestPause = 10 * time.Second
	// Until the first heartbeat has said how often they come.
	firstSilence = 30 * time.Second
	// A stream on which nothing comes for so many of its heartbeats' intervals is dead.
	silentHeartbeats = 2
)

type stream = tokenbrokerpb.TokenBroker_WatchTokensClient

// watch keeps one stream open on which the broker tells of the installs that are remembered. It only hastens what
// memory would learn anyway: a broker that can't do it changes nothing.
type watch struct {
	background context.Context
	connection *connection
	memory     *memory
	changed    chan struct{}
	done       chan struct{}
	start      sync.Once

	mutex    sync.Mutex
	followed map[string]bool
	// changes is what the open stream has not been asked yet, by install: true subscribes.
	changes map[string]bool
}

// newWatch opens nothing before an install is remembered.
func newWatch(background context.Context, connection *connection, memory *memory) *watch {
	made := &watch{
		background: background, connection: connection, memory: memory,
		changed: make(chan struct{}, 1), done: make(chan struct{}),
		followed: map[string]bool{}, changes: map[string]bool{},
	}
	memory.entered, memory.left = made.follow, made.leave
	return made
}

// follow subscribes to an install, unless it is; the first one opens the stream.
func (w *watch) follow(installID string) {
	w.mutex.Lock()
	isNew := !w.followed[installID]
	if isNew {
		w.followed[installID], w.changes[installID] = true, true
	}
	w.mutex.Unlock()
	if isNew {
		w.wake()
		w.start.Do(func() { go w.run() })
	}
}

// leave unsubscribes from an install.
func (w *watch) leave(installID string) {
	w.mutex.Lock()
	if w.followed[installID] {
		delete(w.followed, installID)
		w.changes[installID] = false
	}
	w.mutex.Unlock()
	w.wake()
}

// wait returns when the stream has ended, as it does when the background does.
func (w *watch) wait() {
	w.start.Do(func() { close(w.done) })
	<-w.done
}

func (w *watch) wake() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// run opens one stream after another, with full jitter: the clients of a broker that stops don't return all at once.
func (w *watch) run() {
	defer close(w.done)
	for pause := firstPause; w.background.Err() == nil; pause = min(2*pause, longestPause) {
		hasCome, err := w.listen()
		slog.Debug("tokenbroker: the stream of WatchTokens ended", "error", err)
		if hasCome {
			pause = firstPause
		}
		select {
		case <-time.After(rand.N(pause)):
		case <-w.background.Done():
		}
	}
}

// listen opens a stream and hears it out; it returns whether anything came.
func (w *watch) listen() (hasCome bool, err error) {
	ctx, cancel := context.WithCancel(w.background)
	var sending sync.WaitGroup
	defer sending.Wait() // or it would take the changes that are the next stream's
	defer cancel()
	opened, err := w.connection.watch(ctx)
	if err != nil {
		return false, err
	}
	w.subscribeAnew()
	sending.Go(func() { w.send(ctx, opened) })
	silence := firstSilence
	for {
		alarm := time.AfterFunc(silence, cancel)
		event, err := opened.Recv()
		alarm.Stop()
		if err != nil {
			return hasCome, err
		}
		hasCome = true
		if next := event.GetHeartbeat().GetNextWithin().AsDuration(); next > 0 {
			silence = silentHeartbeats * next
		}
		w.hear(event)
	}
}

func (w *watch) subscribeAnew() {
	w.mutex.Lock()
	clear(w.changes)
	for installID := range w.followed {
		w.changes[installID] = true
	}
	w.mutex.Unlock()
	w.wake()
}

func (w *watch) send(ctx context.Context, opened stream) {
	for {
		select {
		case <-w.changed:
		case <-ctx.Done():
			return
		}
		for installID, subscribes := range w.takeChanges() {
			if opened.Send(w.request(installID, subscribes)) != nil {
				return // Recv has the reason
			}
		}
	}
}

func (w *watch) takeChanges() map[string]bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	taken := w.changes
	w.changes = map[string]bool{}
	return taken
}

func (w *watch) request(installID string, subscribes bool) *tokenbrokerpb.WatchTokensRequest {
	if !subscribes {
		return &tokenbrokerpb.WatchTokensRequest{Change: &tokenbrokerpb.WatchTokensRequest_Unsubscribe{
			Unsubscribe: &tokenbrokerpb.WatchTokensUnsubscribe{PluginId: w.connection.pluginID, InstallId: installID},
		}}
	}
	return &tokenbrokerpb.WatchTokensRequest{Change: &tokenbrokerpb.WatchTokensRequest_Subscribe{
		Subscribe: &tokenbrokerpb.WatchTokensSubscribe{
			PluginId: w.connection.pluginID, InstallId: installID, KnownGeneration: w.memory.generation(installID),
		},
	}}
}

func (w *watch) hear(event *tokenbrokerpb.WatchTokensResponse) {
	if answer := event.GetToken(); answer != nil {
		token, left := tokenOf(answer, answer.GetInstallId())
		w.memory.update(token, left)
	}
	if gone := event.GetUnavailable(); gone != nil {
		w.lose(gone.GetInstallId(), reasonOfFailure(gone.GetFailure()))
	}
}

// lose does what the reason asks for. After some the broker watches the install no more; the next token of it that is
// asked for subscribes again.
func (w *watch) lose(installID string, reason Reason) {
	switch reason {
	case InstallNotFound, InvalidField, Overloaded:
		w.mutex.Lock()
		delete(w.followed, installID)
		w.mutex.Unlock()
	}
	if reason.isDefinite() || reason == ProviderUnavailable {
		w.memory.refuse(installID, math.MaxInt64)
	}
}
