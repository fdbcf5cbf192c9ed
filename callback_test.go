package cdfauth

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"cdfauth/internal/idptest"
)

// TestForgedCallbacksDoNotSettleTheSignIn: A thousand forged answers of every
// kind race the real one through real sockets, while a hundred connections say
// nothing or little, as a rude program may open them. Each forged answer gets
// an error page, and the person is signed in.
func TestForgedCallbacksDoNotSettleTheSignIn(t *testing.T) {
	const forged, silent = 1000, 100
	idp := idptest.New()
	var wg sync.WaitGroup
	var conns []net.Conn // which stay open until the sign-in is over
	var mu sync.Mutex
	var settled []string // forged requests that were sent on
	var page string
	open := func(_ context.Context, address string) error {
		u, err := url.Parse(address)
		if err != nil {
			return err
		}
		back, err := url.Parse(u.Query().Get("redirect_uri"))
		if err != nil {
			return err
		}
		c := idp.Client()
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		resp, err := c.Get(address)
		if err != nil {
			return err
		}
		answer, err := url.Parse(resp.Header.Get("Location"))
		if err != nil {
			return err
		}
		for i := range silent {
			conn, err := net.Dial("tcp", back.Host)
			if err != nil {
				return err
			}
			io.WriteString(conn, "GET /back?state="[:i%17])
			conns = append(conns, conn)
		}
		start := make(chan bool)
		for i := range forged {
			q := url.Values{"state": {fmt.Sprint("forged", i)}, "code": {"evil"}, "iss": {idp.Issuer}}
			method, path, host := "GET", back.Path, back.Host
			switch i % 10 {
			case 0: // another length, another end
				q.Set("state", u.Query().Get("state")[:51])
			case 1:
				q.Set("state", u.Query().Get("state")[:51]+"-")
			case 2:
				q.Add("state", u.Query().Get("state"))
			case 3: // what is right but for one thing
				q, host = answer.Query(), "evil.test"
			case 4:
				q, path = answer.Query(), "/favicon.ico"
			case 5:
				q, method = answer.Query(), "HEAD"
			case 6:
				q = answer.Query()
				q.Add("code", "evil")
			case 7:
				q, method = answer.Query(), "POST" // in the query
			case 8:
				q.Del("state")
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				<-start
				status, _ := call(back.Host, method, host, path+"?"+q.Encode())
				if status != 0 && (status < 400 || status > 499) {
					mu.Lock()
					defer mu.Unlock()
					settled = append(settled,
						fmt.Sprint(status, " for ", method, " ", host, path, "?", q.Encode()))
				}
			}()
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			<-start
			if status, _ := call(back.Host, "GET", back.Host,
				answer.RequestURI()); status != http.StatusSeeOther {
				t.Errorf("the real one was answered %d", status)
			}
			_, b := call(back.Host, "GET", back.Host, back.Path)
			mu.Lock()
			defer mu.Unlock()
			page = b
		}()
		close(start)
		return nil
	}
	p, err := NewInteractive(InteractiveConfig{Endpoint: Issuer(idp.Issuer), ClientID: "app",
		Scopes: []string{"read"}, RedirectURL: "http://127.0.0.1:0/back",
		OpenBrowser: open, Output: io.Discard,
		Options: Options{Cache: &MemoryCache{}, HTTPClient: idp.Client()}})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := p.Token(t.Context())
	wg.Wait()
	for _, c := range conns {
		c.Close()
	}
	if err != nil || tok.Username() != "ada@example.com" || idp.Refused() != 0 {
		t.Errorf("%q signed in, %v; %d codes refused", tok.Username(), err, idp.Refused())
	}
	if len(settled) > 0 {
		t.Errorf("%d forged requests were taken, such as %s", len(settled), settled[0])
	}
	if !strings.Contains(page, "You are signed in") {
		t.Errorf("the person sees %q", page)
	}
	for _, r := range idp.Requests("/token") {
		if r.Form.Get("code") == "evil" {
			t.Error("a forged code was sent to the provider")
		}
	}
}

// call makes one request by hand, and returns the status, 0 if there is no answer, and the body.
func call(addr, method, host, target string) (int, string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, ""
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n", method, target, host)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}
