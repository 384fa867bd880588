package tokenbroker

import (
	"context"
	"errors"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tokenbroker.example/tokenbroker/tokenbrokerpb"
)

const (
	errorDomain  = "tokenbroker.v1"
	reasonPrefix = "ERROR_REASON_"
)

// Reason says why there is no token: the broker's ErrorReason without its prefix, or one of the client's own.
type Reason string

// The reasons. BrokerUnreachable: no broker answered, nor said why. DeadlineExceeded: the caller's, or the call's.
// Unrecognized: the broker gave a reason that this client does not know, or none.
const (
	InstallNotFound          Reason = "INSTALL_NOT_FOUND"
	ReauthorizationRequired  Reason = "REAUTHORIZATION_REQUIRED"
	ProviderUnavailable      Reason = "PROVIDER_UNAVAILABLE"
	ClientCredentialsRefused Reason = "CLIENT_CREDENTIALS_REFUSED"
	InvalidField             Reason = "INVALID_FIELD"
	Overloaded               Reason = "OVERLOADED"
	StoreUnavailable         Reason = "STORE_UNAVAILABLE"
	CallerNotAllowed         Reason = "CALLER_NOT_ALLOWED"
	CallerUnauthenticated    Reason = "CALLER_UNAUTHENTICATED"
	NotImplemented           Reason = "NOT_IMPLEMENTED"
	Internal                 Reason = "INTERNAL"
	ShuttingDown             Reason = "SHUTTING_DOWN"
	AuditUnavailable         Reason = "AUDIT_UNAVAILABLE"
	BrokerUnreachable        Reason = "BROKER_UNREACHABLE"
	DeadlineExceeded         Reason = "DEADLINE_EXCEEDED"
	Unrecognized             Reason = "UNRECOGNIZED"
)

// Errors to compare by errors.Is, for those that callers act upon.
var (
	ErrInstallNotFound         = &Error{Reason: InstallNotFound, Code: codes.NotFound}
	ErrReauthorizationRequired = &Error{Reason: ReauthorizationRequired, Code: codes.FailedPrecondition}
	ErrProviderUnavailable     = &Error{Reason: ProviderUnavailable, Code: codes.Unavailable}
	ErrCallerNotAllowed        = &Error{Reason: CallerNotAllowed, Code: codes.PermissionDenied}
	ErrCallerUnauthenticated   = &Error{Reason: CallerUnauthenticated, Code: codes.Unauthenticated}
	ErrBrokerUnreachable       = &Error{Reason: BrokerUnreachable, Code: codes.Unavailable}
)

// ErrClosed is what a client gives that has been closed.
var ErrClosed = errors.New("tokenbroker: the client is closed")

// Error says why there is no token. docs/errors.md says for each reason what to do.
type Error struct {
	Reason Reason
	// Code is gRPC's.
	Code codes.Code
	// Message is for people.
	Message string
	// RetryAfter is when a retry may help; 0 if the broker did not say.
	RetryAfter time.Duration

	cause error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Message == "" {
		return "tokenbroker: " + string(e.Reason)
	}
	return "tokenbroker: " + string(e.Reason) + ": " + e.Message
}

// Is holds errors of the same reason for the same.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Reason == e.Reason
}

// Unwrap returns the context's error, if that ended the wait.
func (e *Error) Unwrap() error { return e.cause }

// isDefinite says whether a token that is in memory must not be used.
func (r Reason) isDefinite() bool {
	return r == InstallNotFound || r == ReauthorizationRequired || r == CallerNotAllowed
}

func errorOf(err error) *Error {
	told := status.Convert(err)
	found := &Error{Code: told.Code(), Message: told.Message()}
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.GetDomain() == errorDomain {
				found.Reason = knownReason(detail.GetReason())
			}
		case *errdetails.RetryInfo:
			found.RetryAfter = detail.GetRetryDelay().AsDuration()
		}
	}
	if found.Reason == "" {
		found.Reason = reasonOfCode(found.Code)
	}
	return found
}

// retryAfter returns when a retry may help, or 0.
func retryAfter(err error) time.Duration {
	var told *Error
	if !errors.As(err, &told) {
		return 0
	}
	return told.RetryAfter
}

func reasonOfCode(code codes.Code) Reason {
	switch code {
	case codes.Unavailable:
		return BrokerUnreachable
	case codes.DeadlineExceeded:
		return DeadlineExceeded
	default:
		return Unrecognized
	}
}

func knownReason(name string) Reason {
	if tokenbrokerpb.ErrorReason_value[reasonPrefix+name] == 0 { // not known, or UNSPECIFIED, which is never sent
		return Unrecognized
	}
	return Reason(name)
}

func reasonOfFailure(failure *tokenbrokerpb.TokenFailure) Reason {
	return knownReason(strings.TrimPrefix(failure.GetReason().String(), reasonPrefix))
}

// gaveUp is what a caller gets whose own context has ended.
func gaveUp(ctx context.Context) error {
	err := ctx.Err()
	if errors.Is(err, context.DeadlineExceeded) {
		return &Error{
			Reason: DeadlineExceeded, Code: codes.DeadlineExceeded,
			Message: "the caller's own deadline has passed", cause: err,
		}
	}
	return err
}
