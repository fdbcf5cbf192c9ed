//go:build go1.24

package cdfauth

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// This file has the options that the configurations of all flows share, and the
// error that names the field of a configuration that is wrong.

// DefaultLeeway is how long before its expiry a token is refreshed, unless
// [Options] say otherwise.
const DefaultLeeway = 15 * time.Second

// Options holds what every flow shares. Several providers can use the same
// Options. The zero value is right for most programs.
type Options struct {
	// Leeway is how long before its expiry a token is refreshed. If it is more
	// than half of a token's lifetime, half of the lifetime is used. Zero means
	// DefaultLeeway. Constructors reject a negative value.
	Leeway time.Duration

	// Cache keeps tokens for other processes and for later ones, in MSAL's
	// format. Nil means a FileCache at DefaultCachePath for [Interactive] and
	// [DeviceCode], and no cache for the other providers. If the cache fails,
	// the provider logs the error and keeps its tokens in memory.
	Cache Cache

	// HTTPClient sends the requests to the identity provider. The package does
	// not change it, and follows no redirect with it. Nil means a private client
	// of the package, with TLS 1.2 or later and the proxy that the environment
	// names, which gives up on a TCP or a TLS handshake after 5 seconds. With
	// either, a request ends after 10 seconds at most.
	HTTPClient *http.Client

	// Logger gets a record of each exchange with the identity provider and of
	// each failure that Token does not return. The records have no secrets, no
	// tokens and no queries of URLs. Nil means that nothing is logged.
	Logger *slog.Logger
}

// errNotMade is returned by the methods of a provider that is nil or the zero
// value of its type.
var errNotMade = errors.New("cdfauth: provider is nil or zero: make it with its constructor")

// A fieldError says what is wrong with one field of a configuration. Load and
// FromEnv replace the field by the key or the variable that it came from.
type fieldError struct {
	field string // the name of the field
	err   error  // the problem, which continues the sentence that field begins
}

// badField returns a *fieldError. The problem continues the sentence that the
// field's name begins: "is missing", "is negative".
func badField(field, problem string, args ...any) error {
	return &fieldError{field: field, err: fmt.Errorf(problem, args...)}
}

// Error returns the sentence.
func (e *fieldError) Error() string { return "cdfauth: " + e.field + " " + e.err.Error() }

// Unwrap returns the problem alone.
func (e *fieldError) Unwrap() error { return e.err }
