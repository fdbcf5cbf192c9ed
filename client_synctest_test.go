//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"testing/synctest"

	"cdfauth/internal/idptest"
)

// onPipes lets a client's own transport dial an identity provider on a network within the
// process, in which idle connections stay open. It returns a function that counts the open
// connections.
func onPipes(t *testing.T, c *client, idp *idptest.Provider) (open func() int) {
	t.Helper()
	var network pipes
	listener, err := network.listen("tcp", "127.0.0.1:8")
	must(t, err)
	conns := map[net.Conn]bool{}
	server := &http.Server{Handler: idp, ConnState: func(c net.Conn, state http.ConnState) {
		network.mu.Lock()
		defer network.mu.Unlock()
		conns[c] = state != http.StateClosed
	}}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	c.own.DialContext = network.dial
	c.own.IdleConnTimeout = 0
	return func() int {
		synctest.Wait()
		network.mu.Lock()
		defer network.mu.Unlock()
		n := 0
		for _, isOpen := range conns {
			if isOpen {
				n++
			}
		}
		return n
	}
}

// TestNoConnectionIsLeftByAFlight: discovery keeps its connection open for the request that
// follows. If none follows, the connection is closed when the flight ends, and SignOut
// closes its own. A program at rest has no connection.
func TestNoConnectionIsLeftByAFlight(t *testing.T) {
	const issuer = "http://127.0.0.1:8"
	newPerson := func(t *testing.T) (*DeviceCode, *client) {
		p, err := NewDeviceCode(DeviceCodeConfig{Endpoint: Issuer(issuer), ClientID: "app",
			Options: Options{Cache: &MemoryCache{}}})
		must(t, err)
		return p, p.flow().client
	}
	for name, run := range map[string]func(t *testing.T, idp *idptest.Provider) (open func() int){
		"a person who may not be asked": func(t *testing.T, idp *idptest.Provider) func() int {
			p, c := newPerson(t)
			open := onPipes(t, c, idp)
			if _, err := p.Token(WithoutInteraction(t.Context())); !errors.Is(err, ErrSignInRequired) {
				t.Error(err)
			}
			return open
		},
		"sign-out": func(t *testing.T, idp *idptest.Provider) func() int {
			p, c := newPerson(t)
			open := onPipes(t, c, idp)
			must(t, p.SignOut(t.Context()))
			return open
		},
		"a secret that cannot be read": func(t *testing.T, idp *idptest.Provider) func() int {
			r := newRefresher("test", Options{})
			c, err := newClient("test", Issuer(issuer), "client", nil, nil, Options{}, &r.clock)
			must(t, err)
			open := onPipes(t, c, idp)
			unreadable := errors.New("unreadable")
			r.silent = c.appPhase(r, nil, func(context.Context, string, *tokenRequest) error {
				if n := open(); n != 1 {
					t.Errorf("%d connections are open after discovery, want 1", n)
				}
				return unreadable
			})
			if _, err := r.Token(t.Context()); !errors.Is(err, unreadable) {
				t.Error(err)
			}
			return open
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				idp := idptest.New()
				idp.Issuer = issuer
				open := run(t, idp)
				if len(idp.Requests("")) != 1 {
					t.Errorf("%d requests, want that of discovery", len(idp.Requests("")))
				}
				if n := open(); n != 0 {
					t.Errorf("%d connections are left", n)
				}
			})
		})
	}
}
