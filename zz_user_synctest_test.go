//go:build go1.25

package cdfauth

import (
	"testing"
	"context"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

type hung2 struct {
	MemoryCache
	mode string
}

func (h *hung2) Update(ctx context.Context, f func(context.Context, []byte) ([]byte, error)) error {
	if h.mode == "" {
		return h.MemoryCache.Update(ctx, f)
	}
	old, _ := h.Get(ctx)
	_, err := f(ctx, old)
	if h.mode == "after" {
		time.Sleep(time.Hour)
	}
	if h.mode == "panic" {
		panic("x")
	}
	return err
}

func TestReviewU(t *testing.T) {
	for _, mode := range []string{"after", "panic"} {
		synctest.Test(t, func(t *testing.T) {
			h, cache := &human{idp: idptest.New()}, &hung2{}
			p := interactive(t, h, cache, nil)
			tok, _ := get(t, p)
			until(tok, -time.Second)
			cache.mode = mode
			for range 2 {
				var err error
				d := elapse(func() { tok, err = p.Token(t.Context()) })
				t.Logf("%s: err %v after %v, asked %d times, %d token requests, %d refused", mode, err, d, len(h.asks), h.idp.Tokens(), h.idp.Refused())
				time.Sleep(2 * time.Hour)
			}
			time.Sleep(3 * time.Hour)
		})
	}
}
