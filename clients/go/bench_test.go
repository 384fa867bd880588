package tokenbroker

import (
	"testing"
	"time"

	"golang.org/x/oauth2"
)

func BenchmarkFreshRead(b *testing.B) {
	client, err := New("127.0.0.1:1", Insecure())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	token, left := tokenOf(answerOf("1000000", 1), "1000000")
	client.memory.put(token, left, 0)
	ctx := b.Context()
	for b.Loop() {
		if _, err := client.Token(ctx, "1000000"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReuseTokenSource(b *testing.B) {
	source := oauth2.ReuseTokenSource(&oauth2.Token{AccessToken: "a", Expiry: time.Now().Add(time.Hour)}, nil)
	for b.Loop() {
		if _, err := source.Token(); err != nil {
			b.Fatal(err)
		}
	}
}
