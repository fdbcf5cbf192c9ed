package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"cdfauth"
	"cdfauth/internal/idptest"
)

// report is what a worker tells of its calls of Token since it told last.
type report struct {
	Calls   int
	Slowest time.Duration
	Errors  []string // a few of them
	Failed  int
	Token   string // which one it has got last: some of its hash
}

// work is a process of the fleet: it needs a token every 10 ms, and reports for each line on standard input, until that ends.
func work(issuer, addr string, lease time.Duration) error {
	p, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
		Endpoint: cdfauth.TokenURL(issuer + "/token"), ClientID: "client", ClientSecret: cdfauth.SecretString(idptest.New().Clients["client"]),
		Options: cdfauth.Options{
			Cache:      NewCache(redis.Options{Addr: addr}, key, lease),
			HTTPClient: &http.Client{Transport: signed{}}, // nil is better in a program of yours
		},
	})
	if err != nil {
		return err
	}
	lines := make(chan struct{})
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- struct{}{}
		}
	}()
	var r report
	tick := time.NewTicker(10 * time.Millisecond)
	for {
		select {
		case _, ok := <-lines:
			if !ok {
				return nil
			}
			if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
				return err
			}
			r = report{Token: r.Token}
		case <-tick.C:
			start := time.Now()
			t, err := p.Token(context.Background())
			r.Calls++
			r.Slowest = max(r.Slowest, time.Since(start))
			if err == nil && time.Now().After(t.Expiry()) {
				err = fmt.Errorf("got a token that expired at %v", t.Expiry())
			}
			if err != nil {
				if r.Failed++; len(r.Errors) < 3 {
					r.Errors = append(r.Errors, err.Error())
				}
				continue
			}
			r.Token = fmt.Sprintf("%.8x", sha256.Sum256([]byte(t.AccessToken())))
		}
	}
}

// signed tells the identity provider which process asks.
type signed struct{}

func (signed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Worker", strconv.Itoa(os.Getpid()))
	return http.DefaultTransport.RoundTrip(r)
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
