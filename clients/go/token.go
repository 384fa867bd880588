package tokenbroker

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
)

const (
	mask            = "********"
	shownCharacters = 4
	// A shorter value is shown not at all: four characters of it would be too much.
	shortestShown = 16
)

// Token is an access token for Envoy. However it is turned into text, its value is masked; Reveal has it.
type Token struct {
	// A pointer, since package fmt prints a struct's unexported fields past all methods, and pointers as addresses.
	value *string

	// Type is the token's type as Envoy named it: "Bearer".
	Type string
	// Generation counts the token sets of the install; a higher one is newer. Fit for logs.
	Generation int64
	// PluginID, InstallID and CompanyID say whose it is. CompanyID is empty if Envoy has not named it.
	PluginID, InstallID, CompanyID string
	// Expiry is until when it may be used. It has a monotonic reading: time.Until(Expiry) is right under any wall clock.
	Expiry time.Time
}

// Reveal returns the token itself. Never log it.
func (t Token) Reveal() string {
	if t.value == nil {
		return ""
	}
	return *t.value
}

// Authorization returns the value of an Authorization header (RFC 6750, section 2.1). Never log it.
func (t Token) Authorization() string { return t.Type + " " + t.Reveal() }

// String masks the value.
func (t Token) String() string {
	value := t.Reveal()
	if len(value) < shortestShown {
		return mask
	}
	return mask + value[len(value)-shownCharacters:]
}

// GoString masks the value.
func (t Token) GoString() string {
	return fmt.Sprintf("tokenbroker.Token{%v, InstallID: %q, Generation: %d}", t.String(), t.InstallID, t.Generation)
}

// Format masks the value under every verb: %x of a struct would print its fields.
func (t Token) Format(state fmt.State, verb rune) {
	if verb == 'v' && state.Flag('#') {
		_, _ = fmt.Fprint(state, t.GoString())
		return
	}
	_, _ = fmt.Fprint(state, t.String())
}

// MarshalText masks the value.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// MarshalJSON masks the value.
func (t Token) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// LogValue masks the value.
func (t Token) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("token", t.String()),
		slog.String("install_id", t.InstallID),
		slog.Int64("generation", t.Generation),
	)
}
