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

// This file listens on loopback while a person signs in (RFC 8252 §7.3, §8.3), for the
// browser that comes back with the answer of the authorization endpoint. No other
// computer can connect. Every request goes to a callback (callback.go), which tells the
// answer from everything else.

// A listenFunc is net.Listen, or what a test has in its place.
type listenFunc func(network, address string) (net.Listener, error)

// freePortTries is how many free ports are tried, until one is free on both loopback
// addresses.
const freePortTries = 10

// listenLoopback listens on the host and the port of a redirect URI. If the host is
// localhost, it listens on both loopback addresses, of which browsers pick either. Port 0
// means a free port. It returns the redirect URI with the port that is listened on. field
// is the field of the configuration that has the URI, for errors.
func listenLoopback(
	listen listenFunc, redirect *url.URL, field string,
) ([]net.Listener, *url.URL, error) {
	if listen == nil {
		listen = net.Listen
	}
	host := redirect.Hostname()
	addresses := []string{host}
	if strings.EqualFold(host, "localhost") {
		addresses = []string{"127.0.0.1", "::1"}
	}
	port := redirect.Port()
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

// listenOnAll listens on the same port of all addresses, and returns that port. Port 0
// means one that is free on the first address. If this computer does not have one of the
// addresses (it may have no IPv6), listenOnAll leaves it out, unless no other is left.
func listenOnAll(
	listen listenFunc, addresses []string, port string,
) ([]net.Listener, string, error) {
	var listeners []net.Listener
	var unavailable error // of an address that this computer does not have
	for _, address := range addresses {
		l, err := listen("tcp", net.JoinHostPort(address, port))
		if err == nil {
			listeners = append(listeners, l)
			_, port, _ = net.SplitHostPort(l.Addr().String())
			continue
		}
		if hasAddress(listen, address) {
			// Another program has the port at this address. If the browser picked the address,
			// that program would get the answer.
			closeAll(listeners)
			return nil, port, err
		}
		unavailable = err
	}
	if len(listeners) == 0 {
		return nil, port, unavailable
	}
	return listeners, port, nil
}

// hasAddress reports whether this computer has an address: any port can be listened on.
func hasAddress(listen listenFunc, address string) bool {
	l, err := listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// closeAll closes listeners.
func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

const (
	// requestTimeout is how long a request may take to arrive. A connection on which
	// nothing more comes is closed after that.
	requestTimeout = 10 * time.Second
	// requestMaxHeader is how long the header of a request may be, in bytes.
	requestMaxHeader = 64 << 10
)

// serve passes the requests that come to the listeners to the callback, until its caller
// calls stop. stop closes all connections and listeners.
func (c *callback) serve(listeners []net.Listener) (stop func()) {
	server := &http.Server{
		Handler:        c,
		ReadTimeout:    requestTimeout,
		MaxHeaderBytes: requestMaxHeader,
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	for _, l := range listeners {
		go server.Serve(&plainListener{Listener: l, onTLS: c.explainTLS})
	}
	return func() {
		server.Close()
		// The server does not know a listener before its goroutine has called Serve.
		closeAll(listeners)
	}
}

// A plainListener ends the connections on which a browser speaks TLS, and calls onTLS for
// each. Some browsers replace http by https in every address, because of HSTS or in a mode
// that permits https alone.
type plainListener struct {
	net.Listener
	onTLS func()
}

// Accept returns the next connection, as a *plainConn.
func (l *plainListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &plainConn{Conn: conn, onTLS: l.onTLS}, nil
}

// A plainConn is a connection of a plainListener.
type plainConn struct {
	net.Conn
	onTLS func()
	begun bool // something was read
}

// tlsHandshake is the content type of the first record of a TLS connection, and its first
// byte (RFC 8446 §5.1). No HTTP request begins with it.
const tlsHandshake = 22

// Read reads from the connection. If the connection begins with TLS, Read calls onTLS, and
// returns io.EOF as if nothing had come.
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
