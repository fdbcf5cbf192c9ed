//go:build go1.24

package cdfauth

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

type refusal struct { // what is wrong, if it is
	is   bool
	what string
}

func refuse(prefix string, refusals []refusal) error { // returns an error for the first that is wrong
	for _, r := range refusals {
		if r.is {
			return errors.New(prefix + r.what)
		}
	}
	return nil
}

// DefaultLeeway is how long before its expiry a token is refreshed, unless [Options] say otherwise.
const DefaultLeeway = 15 * time.Second

// Options holds what every flow shares: plumbing that several providers can reuse. The zero value is right for most.
type Options struct {
	Leeway time.Duration // what is left of a token's lifetime when it is refreshed, half of it at most; 0 means DefaultLeeway; a negative one is refused
	// Cache keeps tokens for other processes and later ones, in the format of MSAL. What goes wrong with it is logged and costs persistence, never the token.
	Cache Cache // nil means a FileCache at [DefaultCachePath] for the two flows of a person, and none for the others
	// HTTPClient sends the requests to the identity provider; it is used, never changed, and no redirect is followed.
	HTTPClient *http.Client // nil means one private client of the package: TLS 1.2 or later, a proxy from the environment, timeouts, a connection for each request
	Logger     *slog.Logger // gets a record for each exchange and each refresh that failed, without secrets, tokens or URLs' queries; nil means silence
}

var errNotMade = errors.New("cdfauth: provider is nil or zero: make it with its constructor")

// A fieldError says what is wrong with one field of a configuration, so that Load
// and FromEnv can name the key or the variable that it came from.
type fieldError struct {
	field string
	err   error
}

// badField returns a fieldError. The problem continues the sentence that the
// field's name begins: "is missing", "is negative".
func badField(field, problem string, args ...any) error {
	return &fieldError{field, fmt.Errorf(problem, args...)}
}

func (e *fieldError) Error() string { return "cdfauth: " + e.field + " " + e.err.Error() }

func (e *fieldError) Unwrap() error { return e.err }
