//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestStress(t *testing.T) {
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			var rmu sync.Mutex
			rnd := func(n int) int { rmu.Lock(); defer rmu.Unlock(); return r.IntN(n) }
			e := newEngine("x", Options{})
			var flying, n atomic.Int32
			stillborn := sync.Map{}
			do := func(canAsk bool) func(context.Context) (issued, error) {
				return func(ctx context.Context) (issued, error) {
					if flying.Add(1) > 1 {
						t.Error("two at once")
					}
					defer flying.Add(-1)
					lim := 40
					if canAsk { lim = 300 }
					sent := time.Now()
					select {
					case <-time.After(time.Duration(rnd(lim*1000)) * time.Millisecond / 4):
					case <-ctx.Done():
						return issued{}, ctx.Err()
					}
					switch rnd(8) {
					case 0:
						return issued{}, errors.New("x")
					case 1, 2:
						return issued{}, ErrSignInRequired
					case 3:
						panic("x")
					}
					life := time.Duration(rnd(90)) * time.Second
					name := fmt.Sprint(n.Add(1))
					exp := sent.Add(life)
					if !exp.After(time.Now()) { stillborn.Store(name, true) }
					return issued{sent: sent, token: newToken(tokenData{header: bearer + name, expiry: exp})}, nil
				}
			}
			e.silent = do(false)
			if seed%3 != 0 {
				e.ask = do(true)
			}
			var wg sync.WaitGroup
			for i := range 12 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for range 40 {
						ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+rnd(60000))*time.Millisecond)
						if rnd(2) == 0 { ctx = WithoutInteraction(ctx) }
						start := time.Now()
						dl, _ := ctx.Deadline()
						tok, err := e.Token(ctx)
						if time.Now().After(dl) { t.Errorf("waited beyond its context: %v", time.Since(start)) }
						if err == nil {
							if _, ok := stillborn.Load(tok.AccessToken()); !ok && !tok.Expiry().After(time.Now()) {
								t.Errorf("expired token %v", time.Since(tok.Expiry()))
							}
							if rnd(10) == 0 { e.Invalidate(tok) }
						} else if tok.data != nil { t.Error("both") }
						cancel()
						if i == 0 && rnd(15) == 0 { e.forget() }
						time.Sleep(time.Duration(rnd(8000)) * time.Millisecond)
					}
				}()
			}
			wg.Wait()
			time.Sleep(time.Hour)
			e.mu.Lock(); defer e.mu.Unlock(); if e.flight != nil { t.Error("a flight hangs") }
		})
		if t.Failed() { t.Fatal(seed) }
	}
}
