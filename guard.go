//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// This file calls functions that are not the package's own: a Secret, a Signer, a
// Cache, what shows a code or opens a browser. They may panic, end their goroutine,
// or ignore the context that they are given. None of that ends the program or keeps
// a caller of Token waiting: it becomes an error that names the function.

// guard returns what f returns. If f panics, or has not returned when ctx ends, it
// returns an error that says so, and f is abandoned: its goroutine ends when it
// returns, and what it returns then is dropped.
func guard[T any](ctx context.Context, name string, f func(context.Context) (T, error)) (T, error) {
	// An abandoned f may still write to result, so that it is read only if f has
	// returned.
	result := new(T)
	returned, err := guarded(ctx, name, func() error {
		var err error
		*result, err = f(ctx)
		return err
	})
	if !returned {
		var none T
		return none, err
	}
	return *result, err
}

// guarded is guard for a function whose results are not its business: it reports
// whether f has returned. It is apart so that it is linked once, and not for each
// type of result.
func guarded(ctx context.Context, name string, f func() error) (returned bool, err error) {
	// The channel has room for the result, so that an abandoned goroutine can end.
	done := make(chan error, 1)
	go func() {
		// What is left of it if f calls runtime.Goexit.
		err := errors.New("cdfauth: " + name + " ended its goroutine")
		defer func() { done <- err }()
		defer recovered(name, &err)
		err = f()
		if err != nil {
			err = fmt.Errorf("cdfauth: %s: %w", name, err)
		}
	}()
	select {
	case err = <-done:
		return true, err
	case <-ctx.Done():
		return false, fmt.Errorf("cdfauth: %s did not return in time: %w", name, ctx.Err())
	}
}

// recovered is to be deferred: it makes an error of a panic. The value of the panic
// is not in it, unless it is of the runtime's making: it could be a secret.
func recovered(name string, err *error) {
	switch value := recover().(type) {
	case nil:
	case runtime.Error:
		*err = fmt.Errorf("cdfauth: %s panicked: %w", name, value)
	default:
		*err = fmt.Errorf("cdfauth: %s panicked with a %T", name, value)
	}
}
