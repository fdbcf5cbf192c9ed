package main

import (
	"bytes"
	"cmp"
	"context"
	crypto "crypto/rand"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cache is a cdfauth.Cache on Redis, in which the processes of a fleet, on whatever machines, share their tokens. Who is inside Update has the lease: a second
// key with a random value, which Redis drops unless it is renewed.
//
//   - While the lease lasts, nobody else is inside Update. If it cannot be renewed, f's context ends before the lease does.
//   - One script compares the lease and writes, and so refuses a write that comes too late (f did not heed its context, the machine slept, the network held it
//     back). Lease and content are in one Redis: the random value is all the fence it takes. A counter would begin again with a Redis that has lost its data.
//   - A holder that dies delays the others by one lease at most. Make that 10 s: an application waits for 16 s before it goes on without its cache.
//
// The limit is the one primary: replication is asynchronous, and a failover may forget the lease or the last write. The new primary refuses the holder's renewal
// and write, but until that renewal two may be inside f; what they do elsewhere, such as redeem a refresh token that is good for once, nothing in Redis can undo.
// And it shows the content to its operators: wrap the Cache in cdfauth.EncryptCache.
type Cache struct {
	rdb   *redis.Client
	key   string // of the content; the lease's has ":lease" after it. {braced}, both are in one slot of a Redis Cluster.
	lease time.Duration
}

var errLost = errors.New("redis cache: the lease was not renewed in time or is gone: nothing is written") // also the cause of the end of f's context

// KEYS are the lease and the content; ARGV is the lease's value, its milliseconds and the new content. A script may run twice: the client repeats what got no answer.
var (
	ifOurs  = `if redis.call("GET", KEYS[1]) ~= ARGV[1] then return 0 end `
	take    = redis.NewScript(`return (redis.call("SET", KEYS[1], ARGV[1], "NX", "PX", ARGV[2]) or redis.call("GET", KEYS[1]) == ARGV[1]) and 1 or 0`)
	renew   = redis.NewScript(ifOurs + `return redis.call("PEXPIRE", KEYS[1], ARGV[2])`)
	write   = redis.NewScript(ifOurs + `if ARGV[3] == "" then redis.call("DEL", KEYS[2]) else redis.call("SET", KEYS[2], ARGV[3]) end return 1`)
	release = redis.NewScript(ifOurs + `return redis.call("DEL", KEYS[1])`)
)

func (c *Cache) run(ctx context.Context, s *redis.Script, owner string, content []byte) (ours bool, err error) {
	return s.Run(ctx, c.rdb, []string{c.key + ":lease", c.key}, owner, c.lease.Milliseconds(), content).Bool()
}

// NewCache returns a Cache at key. Unless o says otherwise, a command has failed in 2 s or so: a provider goes on without a Redis that is down or hangs.
func NewCache(o redis.Options, key string, lease time.Duration) *Cache {
	o.DialTimeout, o.ReadTimeout, o.ContextTimeoutEnabled = cmp.Or(o.DialTimeout, time.Second), cmp.Or(o.ReadTimeout, time.Second), true
	o.MaxRetries, o.DialerRetries, o.DialerRetryTimeout = cmp.Or(o.MaxRetries, 1), cmp.Or(o.DialerRetries, 1), cmp.Or(o.DialerRetryTimeout, 1)
	return &Cache{redis.NewClient(&o), key, lease}
}

// Get returns the content, nil if there is none. It waits for nobody.
func (c *Cache) Get(ctx context.Context) ([]byte, error) {
	b, err := c.rdb.Get(ctx, c.key).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return b, err
}

// Update calls f with the content while nobody else is inside Update, and stores what it returns; see cdfauth.Cache.
func (c *Cache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	owner, free, sent := crypto.Text(), context.WithoutCancel(ctx), time.Now()
	defer c.run(free, release, owner, nil) // in any case: f may panic, and the lease may be ours though no answer came
	for ours, err := c.run(ctx, take, owner, nil); !ours; ours, err = c.run(ctx, take, owner, nil) {
		if err != nil {
			return fmt.Errorf("redis cache: take the lease: %w", err)
		}
		pause(ctx, 100*time.Millisecond)
		sent = time.Now()
	}
	lease, lose := context.WithCancelCause(free) // ends with the lease, whatever becomes of ctx
	defer lose(nil)
	go c.keep(lease, lose, owner, sent)
	inside, leave := context.WithCancelCause(ctx) // ends with either
	context.AfterFunc(lease, func() { leave(context.Cause(lease)) })

	old, err := c.Get(inside)
	if err != nil {
		return err
	}
	now, err := f(inside, bytes.Clone(old)) // f may write into what it gets
	if err != nil || bytes.Equal(now, old) {
		return err
	}
	for { // f cannot be repeated: while the lease lasts, what it brought is worth another try
		if ours, err := c.run(lease, write, owner, now); ours {
			return nil
		} else if err == nil || !pause(lease, 100*time.Millisecond) {
			return errLost
		}
	}
}

// keep renews the lease. It counts from when that was asked for, and so thinks that the lease has ended sooner than Redis does.
func (c *Cache) keep(lease context.Context, lose context.CancelCauseFunc, owner string, sent time.Time) {
	end := time.AfterFunc(time.Until(sent.Add(c.lease)), func() { lose(errLost) })
	defer end.Stop()
	for pause(lease, c.lease/3) {
		sent = time.Now()
		if ours, err := c.run(lease, renew, owner, nil); ours {
			end.Reset(time.Until(sent.Add(c.lease)))
		} else if err == nil {
			lose(errLost)
		}
	}
}

// pause takes a random time, so that those who wait for the same do not come all at once. It reports whether ctx is still there.
func pause(ctx context.Context, most time.Duration) bool {
	select {
	case <-time.After(most - rand.N(most/2)):
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
