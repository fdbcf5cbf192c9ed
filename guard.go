//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// guard calls a function that is not ours. A panic becomes an error that names it; if it ignores its context, it is abandoned.
func guard[T any](ctx context.Context, name string, f func(context.Context) (T, error)) (T, error) {
	got := new(T) // which what was abandoned may still write to
	returned, err := guarded(ctx, name, func() (err error) { *got, err = f(ctx); return err })
	if !returned {
		return *new(T), err
	}
	return *got, err
}

func guarded(ctx context.Context, name string, f func() error) (returned bool, err error) { // what guard does whatever the type: generic code is linked once for each
	done := make(chan error, 1)
	go func() {
		err := errors.New("cdfauth: " + name + " ended its goroutine") // if it calls runtime.Goexit
		defer func() { done <- err }()
		defer recovered(name, &err)
		if err = f(); err != nil {
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

func recovered(name string, err *error) { // makes an error of a panic, without its value unless that is of the runtime's making: it could be a secret
	switch p := recover().(type) {
	case nil:
	case runtime.Error:
		*err = fmt.Errorf("cdfauth: %s panicked: %w", name, p)
	default:
		*err = fmt.Errorf("cdfauth: %s panicked with a %T", name, p)
	}
}
