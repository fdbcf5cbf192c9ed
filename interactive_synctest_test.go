//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestBrowserSignInAsksOnceAndIsSilentAfterwards: The person sees one request
// and one page. From then on the provider, and the next one with the same
// cache, take the token from the cache or refresh it without a word.
func TestBrowserSignInAsksOnceAndIsSilentAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		p := interactive(t, h, cache, nil)
		tok := signedIn(t, p)
		if tok.Username() != "ada@example.com" || tok.Scope() != "read openid profile offline_access" {
			t.Errorf("token of %q for %q", tok.Username(), tok.Scope())
		}
		if n := h.net.open(); n != 0 {
			t.Errorf("%d listeners are left", n)
		}
		ask := h.last()
		for name, want := range map[string]string{"response_type": "code", "client_id": "app",
			"redirect_uri": "http://localhost:53000",
			"scope":        "read openid profile offline_access", "code_challenge_method": "S256",
			"prompt": "consent", "login_hint": "", "response_mode": "", "client_info": ""} {
			if got := ask.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		for _, name := range []string{"state", "nonce", "code_challenge"} {
			if n := len(ask.Get(name)); n != 43 && n != 52 {
				t.Errorf("%s is %q", name, ask.Get(name))
			}
		}
		synctest.Wait()
		if !strings.HasPrefix(h.page, "http://localhost:53000 ") ||
			!strings.Contains(h.page, "You are signed in") {
			t.Errorf("the person was left at %s", h.page)
		}
		if !strings.Contains(h.told(), "state="+ask.Get("state")) {
			t.Errorf("the person was told %q", h.told())
		}
		if again := signedIn(t, p); !again.Equal(tok) {
			t.Error("another token from the same provider")
		}
		if second := signedIn(t,
			interactive(t, h, cache, nil)); second.AccessToken() != tok.AccessToken() ||
			second.Username() != tok.Username() {
			t.Error("another token from a second start")
		}
		time.Sleep(2 * time.Hour) // the token has expired
		if third := signedIn(t, interactive(t, h, cache, nil)); third.Equal(tok) ||
			third.Username() != tok.Username() {
			t.Error("no new token after expiry")
		}
		if h.asked() != 1 || h.idp.Tokens() != 2 || h.idp.Refused() != 0 {
			t.Errorf("the person was asked %d times, the provider %d, %d refused", h.asked(), h.idp.Tokens(),
				h.idp.Refused())
		}
		for _, r := range h.idp.Requests("/token") {
			if r.Form.Get("scope") != ask.Get("scope") {
				t.Errorf("%s for %q", r.Form.Get("grant_type"), r.Form.Get("scope"))
			}
		}
	})
}

// TestEntraNeedsNoRequestAtAWarmStart: A program starts often. With an address
// that names the tenant, and what the last start has stored, it makes no
// request at all. The domain name of a tenant leads to the same account as its
// identifier, and the refresh token serves another tenant too, as MSAL has it.
// Entra needs no prompt=consent for a refresh token.
func TestEntraNeedsNoRequestAtAWarmStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tenant = "11111111-2222-3333-4444-555555555555"
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		at := func(path string) func(*InteractiveConfig) {
			return func(c *InteractiveConfig) { c.Endpoint = Authority("https://idp.test/" + path) }
		}
		p := interactive(t, h, cache, at(tenant))
		signedIn(t, p)
		if ask := h.last(); ask.Get("prompt") != "" || ask.Get("client_info") != "1" {
			t.Errorf("asked with %v", ask)
		}
		before := len(h.idp.Requests(""))
		signedIn(t, interactive(t, h, cache, at(tenant)))
		if n := len(h.idp.Requests("")) - before; n != 0 {
			t.Errorf("%d requests at a warm start", n)
		}
		// The tenant by its domain name: the realm is what the metadata says.
		h.idp.Metadata(func(m map[string]any) {
			m["token_endpoint"] = "https://idp.test/" + tenant + "/oauth2/v2.0/token"
		})
		signedIn(t, interactive(t, h, cache, at("contoso.com")))
		if h.asked() != 1 {
			t.Error("a tenant's other name was asked to sign in")
		}
		// Another tenant has the refresh token of the account, as MSAL has it.
		h.idp.Metadata(nil)
		signedIn(t, interactive(t, h, cache, at("99999999-2222-3333-4444-555555555555")))
		if h.asked() != 1 || h.idp.Tokens() != 2 {
			t.Errorf("asked %d times, %d token requests", h.asked(), h.idp.Tokens())
		}
	})
}

// TestStateNonceAndVerifierAreNewEachTime: Whoever has seen the state, the
// nonce or the verifier of one sign-in must not be able to use it in the next
// (RFC 9700 §2.1.1).
func TestStateNonceAndVerifierAreNewEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		p := interactive(t, h, &MemoryCache{}, nil)
		signedIn(t, p)
		first := h.last()
		if err := p.SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
		signedIn(t, p)
		for _, name := range []string{"state", "nonce", "code_challenge"} {
			if v := h.last().Get(name); v == "" || v == first.Get(name) {
				t.Errorf("%s is %q twice", name, v)
			}
		}
		var verifiers []string
		for _, r := range h.idp.Requests("/token") {
			verifiers = append(verifiers, r.Form.Get("code_verifier"))
		}
		if len(verifiers) != 2 || verifiers[0] == verifiers[1] || len(verifiers[0]) < 43 {
			t.Errorf("verifiers: %q", verifiers)
		}
	})
}

// TestBrowserSignInEndsWithItsLastWaiter: When the last caller has left, nobody
// waits for the answer, and the provider closes the listener. Once a code has
// arrived, the provider finishes the exchange and the write to the cache,
// because the code serves only once.
func TestBrowserSignInEndsWithItsLastWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		h.back = closesThePage
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := interactive(t, h, cache, nil).Token(ctx); err != context.DeadlineExceeded {
			t.Error(err)
		}
		synctest.Wait()
		if n := h.net.open(); n != 0 {
			t.Errorf("%d listeners are left", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		h.idp.Fault(h.idp.Slow(5*time.Second,
			idptest.Body(`{"access_token":"tok","refresh_token":"ref"}`)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := interactive(t, h, cache, nil).Token(ctx); err != context.DeadlineExceeded {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		if n := refreshTokensIn(t, cache); n != 1 || h.net.open() != 0 {
			t.Errorf("%d refresh tokens are stored, %d listeners are left", n, h.net.open())
		}
		if tok := signedIn(t, interactive(t, h, cache, nil)); tok.AccessToken() != "tok" ||
			h.asked() != 1 {
			t.Error("the code was lost")
		}
	})
}

// TestEchoedSecretsAreNotShown: Some providers repeat the request in the
// error's description. No error, no log and no terminal may show a code, a
// verifier, a refresh token or a device code that comes back in this way.
func TestEchoedSecretsAreNotShown(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		idptest.Error(400, "invalid_request", r.PostForm.Encode()+" "+fmt.Sprint(r.PostForm))(w, r)
	}
	check := func(t *testing.T, idp *idptest.Provider, what string, texts ...string) {
		t.Helper()
		for _, r := range idp.Requests("/token") {
			for _, name := range []string{"code", "code_verifier", "refresh_token", "device_code"} {
				for _, text := range texts {
					if v := r.Form.Get(name); v != "" && strings.Contains(text, v[len(v)-10:]) {
						t.Errorf("%s: the %s is shown: %s", what, name, text)
					}
				}
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		for _, flow := range userFlows {
			d := newDesk(flow)
			d.idp.Fault(echo)
			_, err := d.start(t, &MemoryCache{}).Token(t.Context())
			check(t, d.idp, flow, fmt.Sprintf("%v %+v", err, err), d.log.String(), d.told())
			if err == nil || !strings.Contains(err.Error(), "invalid_request") {
				t.Error(err)
			}
			d = newDesk(flow)
			cache := &MemoryCache{}
			signedIn(t, d.start(t, cache))
			time.Sleep(2 * time.Hour)
			d.idp.Fault(echo)
			_, err = d.start(t, cache).Token(WithoutInteraction(t.Context()))
			check(t, d.idp, flow+" refresh", fmt.Sprintf("%v %+v", err, err), d.log.String(), d.told())
			if err == nil || !strings.Contains(err.Error(), "invalid_request") {
				t.Error(err)
			}
		}
	})
}

// TestBrowserOpensWhileOutputBlocks: A terminal that is stopped (Ctrl-S) blocks
// whoever writes to it. The browser opens all the same, and the person signs
// in. When the terminal goes on, it shows the texts in their order.
func TestBrowserOpensWhileOutputBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		goesOn := make(chan struct{})
		p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) {
			c.Output = writeFunc(func(b []byte) (int, error) { <-goesOn; return h.Write(b) })
		})
		if d := elapse(func() { signedIn(t, p) }); d > 5*time.Second {
			t.Errorf("signed in after %v", d)
		}
		p.flow().tell("and more")
		close(goesOn)
		synctest.Wait()
		if told := h.told(); !strings.HasPrefix(told, "\nTo sign in") ||
			!strings.HasSuffix(told, "and more") {
			t.Errorf("told: %q", told)
		}
	})
}

// TestOutputThatPanicsCostsNoSignIn: Output is the caller's code. If it panics,
// the person cannot read the text, but the browser has opened, and the sign-in
// goes on.
func TestOutputThatPanicsCostsNoSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		signedIn(t, interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) {
			c.Output = writeFunc(func([]byte) (int, error) { panic("no terminal") })
		}))
	})
}

// TestOpenerEndsWithTheAnswer: OpenBrowser may run for as long as the browser
// does. When the answer has come, the provider ends its context and stops
// waiting for Input, although the exchange of the code still takes its time.
func TestOpenerEndsWithTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.idp.Fault(h.idp.Slow(8*time.Second, idptest.Body(`{"access_token":"tok"}`)))
		ran := time.Hour
		p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) {
			c.OpenBrowser = func(ctx context.Context, address string) error {
				h.open(ctx, address)
				ran = elapse(func() { <-ctx.Done() })
				return nil
			}
		})
		signedIn(t, p)
		synctest.Wait()
		if ran > time.Second {
			t.Errorf("the opener ran for %v", ran)
		}
	})
}

// TestCodeIsKeptIfEverybodyLeavesAsItArrives: whoever leaves once the browser has an answer
// from the listener is too late to end the sign-in.
func TestCodeIsKeptIfEverybodyLeavesAsItArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		ctx, cancel := context.WithCancel(t.Context())
		h.back = func(location string) error {
			u, _ := url.Parse(location)
			h.send("127.0.0.1:53000", "GET /?"+u.RawQuery+" HTTP/1.1\r\nHost: localhost:53000\r\n\r\n")
			cancel()
			return nil
		}
		p := interactive(t, h, cache, nil)
		s := p.flow().signIn
		authorize := s.authorize
		s.authorize = func(ctx context.Context, q *promptRequest) (grant, claims, error) {
			answered := q.answered
			q.answered = func() bool {
				time.Sleep(time.Second) // the provider's goroutine is slow
				return answered()
			}
			return authorize(ctx, q)
		}
		if _, err := p.Token(ctx); err != context.Canceled {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if n := refreshTokensIn(t, cache); n != 1 {
			t.Errorf("%d refresh tokens are stored", n)
		}
		signedIn(t, interactive(t, h, cache, nil))
		if h.asked() != 1 {
			t.Error("the code was lost")
		}
	})
}

// TestAnswerCountsBeforeTheEnd: if the answer has come and the wait for it has ended, the
// answer counts.
func TestAnswerCountsBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		b := interactive(t, h, &MemoryCache{}, nil).flow()
		ended, end := context.WithCancel(t.Context())
		end()
		for range 50 { // a select that has a choice picks at random
			answer := newCallback(b.redirect, &metadata{})
			answer.accept(url.Values{"state": {answer.state}, "code": {"x"}})
			if err := b.await(ended, answer, "https://idp.test/authorize"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestOpenerThatQuotesTheURL: the error neither shows the state that is in the URL nor
// leads to it. An opener's error without the state can be told by errors.Is.
func TestOpenerThatQuotesTheURL(t *testing.T) {
	broken := errors.New("broken")
	for _, quotes := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			state := ""
			p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) {
				c.OpenBrowser = func(_ context.Context, address string) error {
					u, err := url.Parse(address)
					must(t, err)
					state = u.Query().Get("state")
					if quotes {
						return &url.Error{Op: "open", URL: "/?state=" + state, Err: broken}
					}
					return broken
				}
			})
			_, err := p.Token(t.Context())
			if !errors.Is(err, ErrSignInRequired) || !strings.Contains(err.Error(), "broken") ||
				errors.Is(err, broken) == quotes {
				t.Error(err)
			}
			var quoting *url.Error
			if strings.Contains(err.Error(), state) || errors.As(err, &quoting) {
				t.Errorf("the error has the state: %v", err)
			}
			_, reason, _ := strings.Cut(h.told(), "No browser opens here")
			if !strings.Contains(reason, "broken") || strings.Contains(reason, state) {
				t.Errorf("told: %s", reason)
			}
		})
	}
}
