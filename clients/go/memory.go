package tokenbroker

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// However short a token's life, and after a refresh that failed: no call sooner than that.
	shortestFresh = time.Second
	// Fresh for one part in so many of the life that was left.
	freshPart = 2
	// When memory is full, one part in so many of it is emptied at once, so that it is not searched at every new install.
	evictedPart = 16
	// Who was asked for last is known no better than that: readers of one install don't all write to one place.
	askedGrain = time.Millisecond
)

// entry is a token in memory. All times are on the memory's clock.
type entry struct {
	token       Token
	staleAt     time.Duration
	usableUntil time.Duration
	// refusedAt is when the token was taken out of use before its time. An answer to an older question does not bring it
	// back.
	refusedAt time.Duration
	nextTry   atomic.Int64
	askedAt   atomic.Int64
}

// touch notes that it was asked for.
func (e *entry) touch(now time.Duration) {
	if int64(now)-e.askedAt.Load() >= int64(askedGrain) {
		e.askedAt.Store(int64(now))
	}
}

// outdates says whether an answer changes nothing, that was asked for when the memory's clock stood at begun.
func (e *entry) outdates(answer Token, begun, now time.Duration) bool {
	if begun < e.refusedAt {
		return answer.Generation <= e.token.Generation
	}
	return answer.Generation < e.token.Generation && now < e.usableUntil
}

// memory has the tokens of a client, and knows when each is to be asked for again. Whoever reads takes no lock.
type memory struct {
	maxAge time.Duration
	now    func() time.Duration
	// entered and left are told which installs are remembered. They are called under the lock, and must return at once.
	entered, left func(installID string)

	entries sync.Map // of *entry, by install

	mutex       sync.Mutex // whoever changes which entries there are
	maxInstalls int
	count       int
}

func newMemory(maxInstalls int, maxAge time.Duration, now func() time.Duration) *memory {
	nobody := func(string) {}
	return &memory{maxInstalls: maxInstalls, maxAge: maxAge, now: now, entered: nobody, left: nobody}
}

// monotonic is a clock that never jumps, from the moment of this call.
func monotonic() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

func (m *memory) find(installID string) *entry {
	found, ok := m.entries.Load(installID)
	if !ok {
		return nil
	}
	return found.(*entry)
}

// fresh returns a FRESH token. It is what nearly every call does, and all it does.
func (m *memory) fresh(installID string) (Token, bool) {
	found := m.find(installID)
	if found == nil {
		return Token{}, false
	}
	now := m.now()
	if now >= found.staleAt {
		return Token{}, false
	}
	found.touch(now)
	return found.token, true
}

// usable returns a token that may be used, and whether a refresh should begin behind it. Then none does for a while.
func (m *memory) usable(installID string) (token Token, isDue, ok bool) {
	found, now := m.find(installID), m.now()
	if found == nil || now >= found.usableUntil {
		return Token{}, false, false
	}
	found.touch(now)
	if now < found.staleAt {
		return found.token, false, true
	}
	next := found.nextTry.Load()
	isDue = int64(now) >= next && found.nextTry.CompareAndSwap(next, int64(now+shortestFresh))
	return found.token, isDue, true
}

// newer returns a token that may be used, if there is one of a later generation.
func (m *memory) newer(installID string, generation int64) (Token, bool) {
	found := m.find(installID)
	if found == nil || m.now() >= found.usableUntil || found.token.Generation <= generation {
		return Token{}, false
	}
	return found.token, true
}

// put remembers a token that lives for left and was asked for at begun. It returns the one to use: a newer one, if that
// is remembered.
func (m *memory) put(token Token, left, begun time.Duration) Token {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	known, now := m.find(token.InstallID), m.now()
	if known != nil && known.outdates(token, begun, now) {
		if now < known.usableUntil {
			return known.token
		}
		return token
	}
	if m.maxInstalls > 0 {
		m.store(m.entryOf(token, left, now), known)
	}
	return token
}

// update takes a token that nobody asked for, if its install is remembered and nothing newer is.
func (m *memory) update(token Token, left time.Duration) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	known, now := m.find(token.InstallID), m.now()
	if known != nil && !known.outdates(token, now, now) {
		m.store(m.entryOf(token, left, now), known)
	}
}

func (m *memory) entryOf(token Token, left, now time.Duration) *entry {
	fresh := min(left, max(shortestFresh, min(m.maxAge, left/freshPart)))
	made := &entry{token: token, usableUntil: now + left, staleAt: now + fresh}
	made.nextTry.Store(int64(made.staleAt))
	made.askedAt.Store(int64(now))
	return made
}

func (m *memory) store(made, known *entry) {
	installID := made.token.InstallID
	if known == nil {
		m.count++
	} else {
		made.askedAt.Store(known.askedAt.Load())
	}
	m.entries.Store(installID, made)
	if m.count > m.maxInstalls {
		m.evict(installID)
	}
	m.entered(installID)
}

// refuse takes a token out of use, unless it is newer than generation. It returns whether it was in use. What is left
// of it keeps older answers out.
func (m *memory) refuse(installID string, generation int64) bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	known, now := m.find(installID), m.now()
	if known == nil || known.token.Generation > generation || now >= known.usableUntil {
		return false
	}
	refused := &entry{token: known.token, refusedAt: now}
	refused.askedAt.Store(known.askedAt.Load())
	m.entries.Store(installID, refused)
	return true
}

// putOff sees to it that no refresh begins behind the token for a while.
func (m *memory) putOff(installID string, pause time.Duration) {
	if found := m.find(installID); found != nil {
		until := int64(m.now() + max(pause, shortestFresh))
		found.nextTry.Store(max(found.nextTry.Load(), until))
	}
}

// generation returns the newest that is known of an install, or 0.
func (m *memory) generation(installID string) int64 {
	if found := m.find(installID); found != nil {
		return found.token.Generation
	}
	return 0
}

// close forgets everything, and remembers nothing from now on.
func (m *memory) close() {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.entries.Clear()
	m.count, m.maxInstalls = 0, 0
}

// evict drops the least lately asked for, but never the newest.
func (m *memory) evict(newest string) {
	type asked struct {
		installID string
		at        int64
	}
	others := make([]asked, 0, m.count)
	m.entries.Range(func(installID, found any) bool {
		if installID != newest {
			others = append(others, asked{installID.(string), found.(*entry).askedAt.Load()})
		}
		return true
	})
	slices.SortFunc(others, func(a, b asked) int { return cmp.Compare(a.at, b.at) })
	for _, one := range others[:min(len(others), max(1, m.maxInstalls/evictedPart))] {
		m.entries.Delete(one.installID)
		m.count--
		m.left(one.installID)
	}
}
