//go:build go1.25

package cdfauth

import (
	"context"
	"crypto"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestSlowSignerIsAbandonedAtTheDeadline: a key in an HSM or a cloud can be slow, or never
// answer. A Signer and its Sign get as long as the flight has. After that the flight goes
// on without them, with an error that names Signer.
func TestSlowSignerIsAbandonedAtTheDeadline(t *testing.T) {
	key := parseTestKey(t, "p256-pkcs8.pem")
	for _, tt := range []struct {
		name   string
		after  time.Duration
		signer func(block func()) func(context.Context) (crypto.Signer, error)
	}{
		{"2 s for the signer", 2 * time.Second,
			func(block func()) func(context.Context) (crypto.Signer, error) {
				return func(context.Context) (crypto.Signer, error) { block(); return hsm{key}, nil }
			}},
		{"2 s for Sign", 2 * time.Second,
			func(block func()) func(context.Context) (crypto.Signer, error) {
				return func(context.Context) (crypto.Signer, error) {
					return signFunc{key.Public(), func() ([]byte, error) {
						block()
						return derSignature(make([]byte, 64)), nil
					}}, nil
				}
			}},
		{"the signer hangs", time.Hour, func(block func()) func(context.Context) (crypto.Signer, error) {
			return func(context.Context) (crypto.Signer, error) { block(); return hsm{key}, nil }
		}},
		{"Sign hangs", time.Hour, func(block func()) func(context.Context) (crypto.Signer, error) {
			return func(context.Context) (crypto.Signer, error) {
				return signFunc{key.Public(), func() ([]byte, error) {
					block()
					return nil, errors.New("too late")
				}}, nil
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				idp := idptest.New()
				idp.Always(idptest.Body(`{"access_token":"tok","expires_in":3600}`))
				p := newCertificateProvider(t, idp, ClientCertificateConfig{Signer: tt.signer(func() {
					time.Sleep(tt.after)
				})})
				var err error
				d := elapse(func() { _, err = p.Token(t.Context()) })
				if tt.after < silentLimit {
					if err != nil || d != tt.after {
						t.Errorf("%v after %v", err, d)
					}
				} else if err == nil ||
					!strings.Contains(err.Error(), "cdfauth: Signer did not return in time") ||
					!errors.Is(err, context.DeadlineExceeded) || d != silentLimit {
					t.Errorf("%v after %v, want an error that names Signer after %v", err, d, silentLimit)
				}
				time.Sleep(tt.after) // so that the abandoned goroutine ends with the bubble
			})
		})
	}
}

// TestRotatedCertificateIsUsedFromTheNextExchange: tools such as cert-manager replace the
// files of a certificate while the program runs. The provider reads them at each exchange.
// While they are half-written, it goes on handing out the token that it has.
func TestRotatedCertificateIsUsedFromTheNextExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		idp.Always(idptest.Body(`{"access_token":"tok","expires_in":3600}`))
		oldKey, newKey := testKey(t, "p256-pkcs8.pem"), testKey(t, "ed25519-pkcs8.pem")
		text := oldKey
		p := newCertificateProvider(t, idp,
			ClientCertificateConfig{Certificate: func(context.Context) (string, error) {
				return text, nil
			}})
		tok, _ := get(t, p)
		text = oldKey + newKey // half-written
		until(tok, DefaultLeeway)
		if again, d := get(t, p); !again.Equal(tok) || d != 0 {
			t.Errorf("waited %v for another token", d)
		}
		synctest.Wait()
		if n := len(idp.Requests("/token")); n != 1 {
			t.Errorf("%d requests, want none from the broken text", n-1)
		}
		text = newKey
		until(tok, DefaultLeeway/2)
		get(t, p)
		synctest.Wait()
		requests := idp.Requests("/token")
		if len(requests) != 2 {
			t.Fatalf("%d requests, want 2", len(requests))
		}
		for i, name := range []string{"p256-pkcs8.pem", "ed25519-pkcs8.pem"} {
			o := open(t, requests[i].Form.Get("client_assertion"))
			if !o.verify(parseTestKey(t, name).Public()) ||
				o.claims["iat"] != float64(requests[i].At.Unix()) {
				t.Errorf("request %d is not signed by %s, or not at the time: %v", i, name, o.claims)
			}
		}
	})
}
