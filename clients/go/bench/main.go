// Command bench measures the Go client beside oauth2.ReuseTokenSource, in the same run. It prints one JSON object.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"tokenbroker.example/tokenbroker"
)

const (
	aim           = 3
	rounds        = 7
	callers       = 16
	batch         = 1000 // reads between two looks at the clock
	countedReads  = 100_000
	yardstickLife = time.Hour
	callsShare    = 4 // one part in so many of the time is for calls to the broker, the rest for reads
	measures      = 4
)

type report struct {
	Language             string  `json:"language"`
	Runtime              string  `json:"runtime"`
	FreshReadNS          float64 `json:"fresh_read_ns"`
	Yardstick            string  `json:"yardstick"`
	YardstickNS          float64 `json:"yardstick_ns"`
	Ratio                float64 `json:"ratio"`
	Aim                  float64 `json:"aim"`
	AllocationsPerRead   float64 `json:"allocations_per_read"`
	BytesPerRead         float64 `json:"bytes_per_read"`
	ContendedNS          float64 `json:"contended_16_ns"`
	ContendedYardstickNS float64 `json:"contended_yardstick_ns"`
	TokensPerSecond      float64 `json:"tokens_per_second"`
	CallsPerSecond       float64 `json:"calls_per_second"`
}

func main() {
	target := flag.String("target", "127.0.0.1:50051", "the broker, HOST:PORT")
	install := flag.String("install", "1000000", "an install that has a token")
	seconds := flag.Float64("seconds", 2, "how long it measures, in all")
	flag.Parse()
	measured, err := measure(*target, *install, time.Duration(*seconds*float64(time.Second)))
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(measured); err != nil {
		log.Fatal(err)
	}
}

func measure(target, install string, length time.Duration) (report, error) {
	ctx := context.Background()
	client, err := tokenbroker.New(target, tokenbroker.Insecure())
	if err != nil {
		return report{}, err
	}
	defer func() { _ = client.Close() }()
	token, err := client.Token(ctx, install)
	if err != nil {
		return report{}, err
	}
	yardstick := oauth2.ReuseTokenSource(
		&oauth2.Token{AccessToken: token.Reveal(), Expiry: time.Now().Add(yardstickLife)}, nil)
	ours := func() error { _, err := client.Token(ctx, install); return err }
	theirs := func() error { _, err := yardstick.Token(); return err }

	calls, err := callsPerSecond(ctx, target, install, length/callsShare)
	if err != nil {
		return report{}, err
	}
	each := (length - length/callsShare) / (rounds * measures)
	var fresh, reused, contended, contendedReused []float64
	for range rounds { // interleaved, so that what the machine does meanwhile befalls all
		fresh = append(fresh, nanoseconds(1, each, ours))
		reused = append(reused, nanoseconds(1, each, theirs))
		contended = append(contended, nanoseconds(callers, each, ours))
		contendedReused = append(contendedReused, nanoseconds(callers, each, theirs))
	}
	allocations, bytes := allocated(ours)
	return report{
		Language: "go", Runtime: runtime.Version(), Yardstick: "oauth2.ReuseTokenSource", Aim: aim,
		FreshReadNS: median(fresh), YardstickNS: median(reused), Ratio: median(fresh) / median(reused),
		AllocationsPerRead: allocations, BytesPerRead: bytes,
		ContendedNS: median(contended), ContendedYardstickNS: median(contendedReused),
		TokensPerSecond: float64(time.Second) / median(fresh), CallsPerSecond: calls,
	}, nil
}

// nanoseconds is how long one read takes, of all that the readers do together.
func nanoseconds(readers int, length time.Duration, read func() error) float64 {
	counts := make([]int, readers)
	var all sync.WaitGroup
	began := time.Now()
	for reader := range readers {
		all.Go(func() {
			own := 0
			for time.Since(began) < length {
				readBatch(batch, read)
				own += batch
			}
			counts[reader] = own
		})
	}
	all.Wait()
	took, reads := time.Since(began), 0
	for _, count := range counts {
		reads += count
	}
	return float64(took) / float64(reads)
}

// allocated is what one read allocates: how often, and bytes.
func allocated(read func() error) (allocations, bytes float64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	readBatch(countedReads, read)
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / countedReads, float64(after.TotalAlloc-before.TotalAlloc) / countedReads
}

func readBatch(reads int, read func() error) {
	for range reads {
		if err := read(); err != nil {
			log.Fatal(err)
		}
	}
}

// callsPerSecond is how many tokens a client that remembers none gets from the broker, one after the other.
func callsPerSecond(ctx context.Context, target, install string, length time.Duration) (float64, error) {
	client, err := tokenbroker.New(target, tokenbroker.Insecure(), tokenbroker.WithMaxInstalls(0))
	if err != nil {
		return 0, err
	}
	defer func() { _ = client.Close() }()
	if _, err := client.Token(ctx, install); err != nil { // connects
		return 0, err
	}
	began, calls := time.Now(), 0
	for ; time.Since(began) < length; calls++ {
		if _, err := client.Token(ctx, install); err != nil {
			return 0, err
		}
	}
	return float64(calls) / time.Since(began).Seconds(), nil
}

func median(found []float64) float64 {
	slices.Sort(found)
	return found[len(found)/2]
}
