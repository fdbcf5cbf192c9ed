package idptest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// people is what the provider knows of those who sign in.
type people struct {
	codes    map[string]signIn // authorization codes
	devices  map[string]signIn // device codes
	families map[string]int    // by refresh token, also used ones
	current  map[int]string    // the one refresh token of a family that is good
	who      map[int]signIn
	refused  int
}

type signIn struct {
	client, redirect, challenge, nonce, scope, username, userCode string
	at                                                            time.Time
}

// document is the metadata at a path: a provider has as many realms as are asked for.
func (p *Provider) document(path string) map[string]any {
	base := p.Issuer + strings.TrimSuffix(path, "/.well-known/openid-configuration")
	m := map[string]any{"issuer": base, "token_endpoint": base + "/token", "authorization_endpoint": base + "/authorize",
		"device_authorization_endpoint": base + "/devicecode", "authorization_response_iss_parameter_supported": true,
		"scopes_supported": []string{"openid", "profile", "offline_access"}}
	if root, ok := strings.CutSuffix(base, "/v2.0"); ok { // Entra's
		m["token_endpoint"], m["authorization_endpoint"] = root+"/oauth2/v2.0/token", root+"/oauth2/v2.0/authorize"
		delete(m, "authorization_response_iss_parameter_supported")
	}
	return m
}

// issuer is that of the realm that an endpoint belongs to.
func (p *Provider) issuer(path string) string {
	base := path[:strings.LastIndexByte(path, '/')]
	if tenant, ok := strings.CutSuffix(base, "/oauth2/v2.0"); ok {
		return p.Issuer + tenant + "/v2.0"
	}
	return p.Issuer + base
}

// serveAuthorize is the authorization endpoint (RFC 6749 §3.1); its person decides at once.
func (p *Provider) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("state") == "" {
		Error(400, "invalid_request", "")(w, r)
		return
	}
	person := p.Person
	if person == nil {
		person = func(url.Values) (string, bool) { return "ada@example.com", true }
	}
	name, ok := person(q)
	answer := url.Values{"state": {q.Get("state")}, "iss": {p.issuer(r.URL.Path)}}
	if ok {
		code := "code-" + rand.Text()
		answer.Set("code", code)
		p.mu.Lock()
		if p.codes == nil {
			p.codes = map[string]signIn{}
		}
		p.codes[code] = signIn{q.Get("client_id"), q.Get("redirect_uri"), q.Get("code_challenge"), q.Get("nonce"), q.Get("scope"), name, "", time.Now()}
		p.mu.Unlock()
	} else {
		answer.Set("error", "access_denied")
		answer.Set("error_description", "the person said no")
	}
	back.RawQuery = answer.Encode()
	http.Redirect(w, r, back.String(), http.StatusSeeOther)
}

// serveDevice is the device authorization endpoint (RFC 8628 §3.1).
func (p *Provider) serveDevice(w http.ResponseWriter, r *http.Request) {
	code, user := "dev-"+rand.Text(), rand.Text()[:8]
	p.mu.Lock()
	if p.devices == nil {
		p.devices = map[string]signIn{}
	}
	p.devices[code] = signIn{client: r.PostForm.Get("client_id"), scope: r.PostForm.Get("scope"), userCode: user, at: time.Now()}
	p.mu.Unlock()
	interval := 5
	if p.Interval > 0 {
		interval = int(p.Interval / time.Second)
	}
	JSON(200, map[string]any{"device_code": code, "user_code": user, "verification_uri": p.Issuer + "/device", "expires_in": 900, "interval": interval})(w, r)
}

// serveUser answers token requests of the flows in which people sign in.
func (p *Provider) serveUser(w http.ResponseWriter, r *http.Request) bool {
	f := r.PostForm
	p.mu.Lock()
	defer p.mu.Unlock()
	switch f.Get("grant_type") {
	case "authorization_code":
		s, ok := p.codes[f.Get("code")]
		delete(p.codes, f.Get("code"))
		sum := sha256.Sum256([]byte(f.Get("code_verifier")))
		if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != s.challenge || s.redirect != f.Get("redirect_uri") || s.client != f.Get("client_id") {
			p.refused++
			Error(400, "invalid_grant", "")(w, r)
			return true
		}
		p.signedIn(w, r, s)
	case "urn:ietf:params:oauth:grant-type:device_code":
		s, ok := p.devices[f.Get("device_code")]
		if !ok || time.Since(s.at) > 15*time.Minute {
			Error(400, "expired_token", "")(w, r)
			return true
		}
		name, done := "ada@example.com", true
		if p.Codes != nil {
			name, done = p.Codes(s.userCode)
		}
		if !done {
			Error(400, "authorization_pending", "")(w, r)
			return true
		}
		delete(p.devices, f.Get("device_code"))
		if s.username = name; name == "" {
			Error(400, "access_denied", "the person said no")(w, r)
			return true
		}
		p.signedIn(w, r, s)
	case "refresh_token":
		token := f.Get("refresh_token")
		family, ok := p.families[token]
		if !ok || p.current[family] != token || p.who[family].client != f.Get("client_id") {
			if ok {
				delete(p.current, family) // RFC 9700 §4.14.2: one of two who used it is a thief
			}
			p.refused++
			Error(400, "invalid_grant", "")(w, r)
			return true
		}
		p.answer(w, r, p.who[family], family, !p.NoRotation, "")
	default:
		return false
	}
	return true
}

func (p *Provider) signedIn(w http.ResponseWriter, r *http.Request, s signIn) {
	if p.families == nil {
		p.families, p.current, p.who = map[string]int{}, map[int]string{}, map[int]signIn{}
	}
	family := len(p.who) + 1
	p.who[family] = s
	p.answer(w, r, s, family, slices.Contains(strings.Fields(s.scope), "offline_access"), s.nonce)
}

// answer is called with p.mu held.
func (p *Provider) answer(w http.ResponseWriter, r *http.Request, s signIn, family int, refresh bool, nonce string) {
	access := "tok-" + rand.Text()
	p.tokens[access] = grant{s.username, s.scope, time.Now().Add(p.Lifetime)}
	m := map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": int(p.Lifetime / time.Second), "scope": s.scope}
	if refresh {
		token := "ref-" + rand.Text()
		p.families[token], p.current[family] = family, token
		m["refresh_token"] = token
	}
	sub := "sub-" + s.username
	if slices.Contains(strings.Fields(s.scope), "openid") {
		m["id_token"] = IDToken(map[string]any{"iss": p.issuer(r.URL.Path), "sub": sub, "aud": s.client, "exp": time.Now().Add(time.Hour).Unix(),
			"nonce": nonce, "preferred_username": s.username})
	}
	if r.PostForm.Get("client_info") == "1" {
		b, _ := json.Marshal(map[string]string{"uid": sub, "utid": "tenant"})
		m["client_info"] = base64.RawURLEncoding.EncodeToString(b)
	}
	JSON(200, m)(w, r)
}

// Refused returns how many codes and refresh tokens were refused.
func (p *Provider) Refused() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refused
}

// IDToken makes a JWT, signed by nobody.
func IDToken(claims map[string]any) string {
	b, _ := json.Marshal(claims)
	e := base64.RawURLEncoding
	return e.EncodeToString([]byte(`{"alg":"none"}`)) + "." + e.EncodeToString(b) + "." + e.EncodeToString([]byte("nobody"))
}
