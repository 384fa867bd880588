package tokenbroker

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const secret = "a-token-that-nobody-may-see-31de"

func secretToken() Token {
	value := secret
	return Token{value: &value, Type: "Bearer", InstallID: "1000000", Generation: 7}
}

// holder is how services keep a token: in a field that package fmt prints past all methods.
type holder struct{ token Token }

type shown struct{ Token Token }

// Tokens end in logs by the ways that nobody thought of.
func TestNoTextShowsAToken(t *testing.T) {
	token := secretToken()
	var lines bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&lines, nil), slog.NewTextHandler(&lines, nil)} {
		slog.New(handler).Info("told", "token", token, "list", []Token{token}, "holder", holder{token})
	}
	document, err := json.Marshal(map[string]any{"token": token, "pointer": &token, "holder": holder{token}})
	if err != nil {
		t.Fatal(err)
	}
	element, err := xml.Marshal(shown{token})
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{lines.String(), string(document), string(element)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10s", "%p", "%w"} {
		for _, value := range []any{token, &token, []Token{token}, holder{token}, &holder{token}, shown{token}} {
			texts = append(texts, fmt.Sprintf(verb, value))
		}
	}
	hexadecimal := fmt.Sprintf("%x", secret)
	for _, text := range texts {
		if strings.Contains(text, secret) || strings.Contains(strings.ToLower(text), hexadecimal) {
			t.Errorf("shown in %q", text)
		}
	}
	if token.Reveal() != secret || token.Authorization() != "Bearer "+secret {
		t.Error("what may show it does not")
	}
}

// Whoever compares two log lines wants to know whether it was the same token.
func TestMaskedTokenShowsItsEnd(t *testing.T) {
	if text := secretToken().String(); text != "********31de" {
		t.Errorf("%q", text)
	}
}

// Four characters of a short one would be too much.
func TestShortTokenIsMaskedWhole(t *testing.T) {
	value := "short"
	if text := (Token{value: &value}).String(); text != mask {
		t.Errorf("%q", text)
	}
}
