package tokenbroker

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"tokenbroker.example/tokenbroker/tokenbrokerpb"
)

func written(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	write(t, path, []byte(text))
	return path
}

// A mistake in the configuration should show at the start, and say which file.
func TestFilesThatCanNotBeUsedAreToldAtOnce(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for name, files := range map[string]TLS{
		"no authorities":            {CAFile: missing},
		"no certificate in it":      {CAFile: written(t, "ca.pem", "none")},
		"a certificate, and no key": {CertificateFile: missing},
		"a key, and no certificate": {KeyFile: missing},
		"no pair":                   {CertificateFile: missing, KeyFile: missing},
		"no token":                  {TokenFile: missing},
		"an empty token":            {TokenFile: written(t, "token", " \n")},
		"two lines":                 {TokenFile: written(t, "token", "one\ntwo")},
		"too large":                 {TokenFile: written(t, "token", strings.Repeat("x", maxTokenBytes+1))},
	} {
		if _, err := New("127.0.0.1:1", files); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// A token that is half written must not end a service; a replaced one is used from the next call on.
func TestReplacedTokenIsReadAgainAndABrokenOneIsNotTaken(t *testing.T) {
	path := written(t, "token", "first\n")
	bearer := bearerToken{file: path}
	for _, step := range []struct{ text, want string }{
		{"first\n", "first"}, {"", "first"}, {"second-token", "second-token"},
	} {
		write(t, path, []byte(step.text))
		found, err := bearer.GetRequestMetadata(t.Context())
		if err != nil || found["authorization"] != "Bearer "+step.want {
			t.Errorf("after %q: %v, %v", step.text, found, err)
		}
	}
	if !bearer.RequireTransportSecurity() {
		t.Error("would be sent in the clear")
	}
}

// Each replica of a list has a certificate for its own address; that of another is an impostor's.
func TestEachReplicaOfAListIsKnownByItsOwnAddress(t *testing.T) {
	signer := newAuthority(t)
	files := TLS{CAFile: signer.caFile(t), TokenFile: written(t, "token", "mine")}
	serve := func(address, named string) (*fakeBroker, string) {
		broker, certificate := &fakeBroker{}, signer.server(t, named)
		broker.getToken = func(
			ctx context.Context, request *tokenbrokerpb.GetTokenRequest,
		) (*tokenbrokerpb.GetTokenResponse, error) {
			if seen := metadata.ValueFromIncomingContext(ctx, "authorization"); len(seen) != 1 || seen[0] != "Bearer mine" {
				t.Errorf("the bearer token is %q", seen)
			}
			return answerOf(request.GetInstallId(), 1), nil
		}
		secure := grpc.Creds(credentials.NewServerTLSFromCert(&certificate))
		return broker, broker.listen(t, address+":0", secure)
	}
	one, first := serve("127.0.0.1", "127.0.0.1")
	other, second := serve("127.0.0.2", "127.0.0.2")
	impostor, third := serve("127.0.0.3", "127.0.0.1")
	client, err := New("ipv4:"+first+","+second+","+third, files, WithMaxInstalls(0), WithTimeout(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	until(t, func() bool {
		mustGet(t, client, "a")
		return one.calls.Load() > 2 && other.calls.Load() > 2
	})
	if calls := impostor.calls.Load(); calls != 0 {
		t.Errorf("%d calls went to the impostor", calls)
	}
}

// A target that can't be used is a mistake of the configuration, and should show at the start.
func TestAddressWithoutAPortIsRefused(t *testing.T) {
	if _, err := New("ipv4:10.0.0.1:50051,10.0.0.2", Insecure()); err == nil {
		t.Error("taken")
	}
}
