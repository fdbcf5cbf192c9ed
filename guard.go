//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// This file calls the functions that callers provide: a Secret, a Signer, a Cache, and
// those that show a code or open a browser. They may panic, end their goroutine, or
// ignore the context that they are given. guard turns each of these into an error that
// names the function, so that it neither ends the program nor keeps a caller of Token
// waiting.

// guard calls f in a goroutine, and returns what f returns. If f panics or ends its
// goroutine, guard returns an error that says so. If ctx ends first, guard returns an
// error that wraps ctx.Err(), and abandons f: what f returns later is dropped, and its
// goroutine ends then.
func guard[T any](ctx context.Context, name string, f func(context.Context) (T, error)) (T, error) {
	// An abandoned f may write to result at any time. So result is read only if f has
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

// guarded is guard for a function that returns an error alone. It reports false if f
// was abandoned. It is a function of its own because guard is compiled for each type
// of result, and this part needs to be compiled only once.
func guarded(ctx context.Context, name string, f func() error) (returned bool, err error) {
	// The channel has room for one error, so that the goroutine of an abandoned f can
	// end.
	done := make(chan error, 1)
	go func() {
		var err error
		returned := false
		defer func() {
			if !returned && err == nil {
				// f has called runtime.Goexit, after which only deferred functions run.
				err = errors.New("cdfauth: " + name + " ended its goroutine")
			}
			done <- err
		}()
		defer recovered(name, &err)
		err = f()
		returned = true
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

// recovered turns a panic of the function that defers it into an error. The error
// shows the value of the panic only if the runtime made it. Another value could
// contain a secret, and only its type is shown.
func recovered(name string, err *error) {
	switch value := recover().(type) {
	case nil:
	case runtime.Error:
		*err = fmt.Errorf("cdfauth: %s panicked: %w", name, value)
	default:
		*err = fmt.Errorf("cdfauth: %s panicked with a %T", name, value)
	}
}
