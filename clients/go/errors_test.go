package tokenbroker

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	"tokenbroker.example/tokenbroker/tokenbrokerpb"
)

// Callers compare by reason; what a message says may change.
func TestErrorsOfOneReasonAreTheSame(t *testing.T) {
	err := fmt.Errorf("wrapped: %w", &Error{Reason: InstallNotFound, Code: codes.NotFound, Message: "no such install"})
	if !errors.Is(err, ErrInstallNotFound) || errors.Is(err, ErrReauthorizationRequired) {
		t.Error(err)
	}
}

// A reason that this client has no name for would be told as UNRECOGNIZED, though the stubs know it.
func TestEveryReasonOfTheProtoHasItsName(t *testing.T) {
	named := map[Reason]bool{
		InstallNotFound: true, ReauthorizationRequired: true, ProviderUnavailable: true, ClientCredentialsRefused: true,
		InvalidField: true, Overloaded: true, StoreUnavailable: true, CallerNotAllowed: true,
		CallerUnauthenticated: true, NotImplemented: true, Internal: true, ShuttingDown: true, AuditUnavailable: true,
		"SIGNATURE_REFUSED": true, // of webhooks, which this client does not pass on
	}
	for value := range tokenbrokerpb.ErrorReason_name {
		reason := reasonOfFailure(&tokenbrokerpb.TokenFailure{Reason: tokenbrokerpb.ErrorReason(value)})
		if value != 0 && !named[reason] {
			t.Errorf("%s has none", reason)
		}
	}
}

// A newer broker may know reasons that this client does not; nor is "unspecified" one.
func TestReasonThatIsNotKnownIsUnrecognized(t *testing.T) {
	for _, value := range []tokenbrokerpb.ErrorReason{0, 9999} {
		if reason := reasonOfFailure(&tokenbrokerpb.TokenFailure{Reason: value}); reason != Unrecognized {
			t.Errorf("%d: %s", value, reason)
		}
	}
	for _, name := range []string{"UNSPECIFIED", "A_NEWER_ONE", ""} {
		if reason := knownReason(name); reason != Unrecognized {
			t.Errorf("%q: %s", name, reason)
		}
	}
}
