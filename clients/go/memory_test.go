package tokenbroker

import (
	"fmt"
	"math"
	"testing"
	"time"
)

func memoryOf(maxInstalls int) (*memory, *handClock) {
	clock := &handClock{}
	return newMemory(maxInstalls, 5*time.Minute, clock.now), clock
}

func generationOf(number int64) Token { return Token{InstallID: "a", Generation: number} }

// What is handed out without a call must be handed out neither too long nor too briefly.
func TestTokenIsFreshForHalfOfWhatWasLeftAndForMaxAgeAtMost(t *testing.T) {
	for _, one := range []struct{ left, fresh time.Duration }{
		{24 * time.Hour, 5 * time.Minute}, {time.Minute, 30 * time.Second}, {1500 * time.Millisecond, time.Second},
		{500 * time.Millisecond, 500 * time.Millisecond},
	} {
		memory, clock := memoryOf(1)
		memory.put(generationOf(1), one.left, 0)
		clock.set(one.fresh - 1)
		if _, ok := memory.fresh("a"); !ok {
			t.Errorf("of %v, not fresh until %v", one.left, one.fresh)
		}
		clock.set(one.fresh)
		if _, ok := memory.fresh("a"); ok {
			t.Errorf("of %v, still fresh at %v", one.left, one.fresh)
		}
		clock.set(one.left)
		if _, _, ok := memory.usable("a"); ok {
			t.Errorf("of %v, still usable at its end", one.left)
		}
	}
}

// Whoever asks for a stale token may begin a refresh; the next ones must not, for a while.
func TestStaleTokenIsDueOnce(t *testing.T) {
	memory, clock := memoryOf(1)
	memory.put(generationOf(1), time.Hour, 0)
	clock.set(5 * time.Minute)
	if _, isDue, ok := memory.usable("a"); !ok || !isDue {
		t.Fatal("not due when it is stale")
	}
	if _, isDue, _ := memory.usable("a"); isDue {
		t.Error("due twice")
	}
	memory.putOff("a", time.Minute)
	clock.advance(time.Minute - 1)
	if _, isDue, _ := memory.usable("a"); isDue {
		t.Error("due before the broker said")
	}
	clock.advance(1)
	if _, isDue, _ := memory.usable("a"); !isDue {
		t.Error("not due when the broker said")
	}
}

// An answer that was overtaken must not bring an old token back; but an expired one holds up nothing.
func TestOlderGenerationChangesNothingWhileTheNewerLives(t *testing.T) {
	memory, clock := memoryOf(1)
	memory.put(generationOf(2), time.Minute, 0)
	if kept := memory.put(generationOf(1), time.Hour, 0); kept.Generation != 2 {
		t.Errorf("kept generation %d", kept.Generation)
	}
	clock.set(time.Minute)
	if kept := memory.put(generationOf(1), time.Hour, 0); kept.Generation != 1 {
		t.Errorf("kept generation %d, which has expired", kept.Generation)
	}
	if _, ok := memory.fresh("a"); !ok {
		t.Error("what came after the end is not remembered")
	}
}

// The broker may give a reported generation again: it knows better. An answer to an older question does not.
func TestRefusedGenerationComesBackOnlyByALaterAnswer(t *testing.T) {
	memory, clock := memoryOf(1)
	memory.put(generationOf(1), time.Hour, 0)
	clock.set(time.Minute)
	if !memory.refuse("a", 1) || memory.refuse("a", 1) {
		t.Error("must be refused once")
	}
	if _, _, ok := memory.usable("a"); ok {
		t.Error("usable though refused")
	}
	memory.put(generationOf(1), time.Hour, time.Minute-1)
	if _, ok := memory.fresh("a"); ok {
		t.Error("an older answer brought it back")
	}
	memory.put(generationOf(2), time.Hour, time.Minute-1)
	if _, ok := memory.fresh("a"); !ok {
		t.Error("a newer generation was kept out")
	}
	memory.refuse("a", math.MaxInt64)
	memory.put(generationOf(2), time.Hour, time.Minute)
	if _, ok := memory.fresh("a"); !ok {
		t.Error("a later answer was kept out")
	}
}

// A report of an old token must not cost the new one.
func TestRefusalLeavesANewerGeneration(t *testing.T) {
	memory, _ := memoryOf(1)
	memory.put(generationOf(2), time.Hour, 0)
	if memory.refuse("a", 1) {
		t.Error("refused a newer one")
	}
	if _, ok := memory.newer("a", 1); !ok {
		t.Error("the newer one is gone")
	}
}

// Who is forgotten must be who is missed least, and the watch must hear of it.
func TestLeastLatelyAskedForLeaves(t *testing.T) {
	memory, clock := memoryOf(32)
	var left []string
	memory.left = func(installID string) { left = append(left, installID) }
	for number := range 32 {
		clock.advance(askedGrain)
		memory.put(Token{InstallID: fmt.Sprint(number)}, time.Hour, 0)
	}
	clock.advance(askedGrain)
	memory.fresh("0")
	memory.put(Token{InstallID: "new"}, time.Hour, 0)
	if want := "[1 2]"; fmt.Sprint(left) != want {
		t.Errorf("%v left, not %s", left, want)
	}
	if _, ok := memory.fresh("new"); !ok {
		t.Error("the newest left")
	}
}

// A service that meets every company must not grow without end, nor lose count when an install comes again.
func TestMemoryNeverHoldsMoreThanItMay(t *testing.T) {
	memory, clock := memoryOf(100)
	held := 0
	memory.left = func(string) { held-- }
	for number := range 5000 {
		installID := fmt.Sprint(number % 700)
		if memory.find(installID) == nil {
			held++
		}
		clock.advance(askedGrain)
		memory.put(Token{InstallID: installID}, time.Hour, 0)
		memory.put(Token{InstallID: installID}, time.Hour, 0)
		if held > 100 || held != memory.count {
			t.Fatalf("%d held, %d counted", held, memory.count)
		}
	}
}

// The path that is taken thousands of times a second leaves nothing for the garbage collector.
func TestFreshReadAllocatesNothing(t *testing.T) {
	memory, _ := memoryOf(1)
	memory.put(generationOf(1), time.Hour, 0)
	if allocated := testing.AllocsPerRun(1000, func() { memory.fresh("a") }); allocated != 0 {
		t.Errorf("%v allocations", allocated)
	}
}
