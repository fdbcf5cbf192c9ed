//go:build go1.24

package cdfauth

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// This file listens on loopback while a person signs in (RFC 8252 §7.3), and serves what
// comes there to a callback (callback.go).

// Limits of a request to the listener: how long it may take to arrive, and its headers.
const (
	callbackTimeout   = 10 * time.Second
	callbackMaxHeader = 64 << 10 // bytes
)

// A listenFunc is net.Listen, or a test's.
type listenFunc func(network, address string) (net.Listener, error)

// How often a free port is looked for that is free on both loopback addresses.
const freePortTries = 10

// listenLoopback listens where the browser is sent back to (RFC 8252 §7.3, §8.3), and
// returns the redirect URI with the port in it, which is a free one for port 0. An
// error names field, which the URL was configured by.
func listenLoopback(
	listen listenFunc, redirect *url.URL, field string,
) ([]net.Listener, *url.URL, error) {
	if listen == nil {
		listen = net.Listen
	}
	host, port := redirect.Hostname(), redirect.Port()
	addresses := []string{host}
	if strings.EqualFold(host, "localhost") {
		// Browsers pick either of the two.
		addresses = []string{"127.0.0.1", "::1"}
	}
	for try := 1; ; try++ {
		listeners, bound, err := listenOnAll(listen, addresses, port)
		if err == nil {
			u := *redirect
			u.Host = net.JoinHostPort(host, bound)
			return listeners, &u, nil
		}
		if port != "0" || try == freePortTries {
			return nil, nil, fmt.Errorf("cdfauth: %s: port %s cannot be listened on "+
				"(does another program use it, or another sign-in?): %w", field, bound, err)
		}
	}
}

// listenOnAll listens on one port of all addresses, and returns that port. An address
// that this computer does not have at all (no IPv6) is left out if there is another.
func listenOnAll(
	listen listenFunc, addresses []string, port string,
) (listeners []net.Listener, bound string, err error) {
	bound = port
	for _, address := range addresses {
		l, failed := listen("tcp", net.JoinHostPort(address, bound))
		if failed == nil {
			listeners = append(listeners, l)
			_, bound, _ = net.SplitHostPort(l.Addr().String())
			continue
		}
		if hasAddress(listen, address) {
			// Its port is taken, and what has it would get the answer.
			closeAll(listeners)
			return nil, bound, failed
		}
		err = failed
	}
	if len(listeners) > 0 {
		return listeners, bound, nil
	}
	return nil, bound, err
}

// hasAddress reports whether anything can be listened on at an address.
func hasAddress(listen listenFunc, address string) bool {
	l, err := listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// serve answers what comes to the listeners, until stop is called.
func (c *callback) serve(listeners []net.Listener) (stop func()) {
	server := &http.Server{
		Handler:        c,
		ReadTimeout:    callbackTimeout,
		MaxHeaderBytes: callbackMaxHeader,
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	for _, l := range listeners {
		go server.Serve(&plainListener{l, c.sayNoTLS})
	}
	return func() {
		server.Close()
		closeAll(listeners) // also those that the server has not come to serve
	}
}

// A plainListener recognises connections on which a browser speaks TLS: some turn each
// http address into one of https (HSTS, HTTPS-only modes). It calls onTLS for those.
type plainListener struct {
	net.Listener
	onTLS func()
}

func (l *plainListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &plainConn{Conn: conn, onTLS: l.onTLS}, nil
}

type plainConn struct {
	net.Conn
	onTLS func()
	begun bool // something was read
}

// The content type of the first record of a TLS connection (RFC 8446 §5.1). No HTTP
// request begins with it.
const tlsHandshake = 22

// Read ends a connection that begins with TLS.
func (c *plainConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n == 0 || c.begun {
		return n, err
	}
	c.begun = true
	if b[0] == tlsHandshake {
		c.onTLS()
		return 0, io.EOF
	}
	return n, err
}

// isLoopback reports whether a host is this computer.
func isLoopback(host string) bool {
	return net.ParseIP(host).IsLoopback() || strings.EqualFold(host, "localhost")
}
