package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"cdfauth"
)

// This file is -check: first aid for "it does not work". It walks the way of a token,
// prints a line for each step with the time that it took, and stops with advice at
// the first step that fails. It prints no secret and no token.

// A target is what the check has to know of the identity provider. The package keeps
// an Endpoint to itself, so that this is worked out from the flags a second time.
type target struct {
	address  string // that is asked first: the metadata's, or the token endpoint's
	metadata bool   // it is the metadata's
	issuer   string // which the metadata has to name; "" if it may name any
}

const wellKnown = "/.well-known/openid-configuration"

// endpointTarget returns the target for the flags.
func endpointTarget(o options) target {
	switch {
	case o.tenant != "":
		return authorityTarget("https://login.microsoftonline.com/" + o.tenant)
	case o.authority != "":
		return authorityTarget(o.authority)
	case o.issuer != "":
		issuer := strings.TrimRight(o.issuer, "/")
		return target{address: issuer + wellKnown, metadata: true, issuer: issuer}
	case o.discovery != "":
		root := strings.TrimSuffix(strings.TrimRight(o.discovery, "/"), wellKnown)
		return target{address: root + wellKnown, metadata: true}
	default:
		return target{address: o.tokenURL}
	}
}

func authorityTarget(authority string) target {
	authority = strings.TrimRight(authority, "/")
	if strings.HasSuffix(strings.ToLower(authority), "/adfs") {
		return target{address: authority + wellKnown, metadata: true}
	}
	return target{address: authority + "/v2.0" + wellKnown, metadata: true}
}

// envTarget returns the target for the variables of the Cognite toolkit.
func envTarget(getenv func(string) string) target {
	if strings.EqualFold(getenv("PROVIDER"), "cdf") {
		return target{address: "https://auth.cognite.com/oauth2/token"}
	}
	return endpointTarget(options{
		tenant:    getenv("IDP_TENANT_ID"),
		authority: getenv("IDP_AUTHORITY_URL"),
		discovery: getenv("IDP_DISCOVERY_URL"),
		tokenURL:  getenv("IDP_TOKEN_URL"),
	})
}

// configTarget returns the target for a configuration of the Python SDK.
func configTarget(config []byte) target {
	var kinds map[string]struct {
		AuthorityURL string `json:"authority_url"`
		DiscoveryURL string `json:"oauth_discovery_url"`
		TokenURL     string `json:"token_url"`
	}
	_ = json.Unmarshal(config, &kinds) // Load has said what is wrong with it
	for _, kind := range kinds {
		return endpointTarget(options{
			authority: kind.AuthorityURL,
			discovery: kind.DiscoveryURL,
			tokenURL:  kind.TokenURL,
		})
	}
	return target{}
}

// A checker prints steps.
type checker struct {
	out   io.Writer
	began time.Time // of the step under way
}

func (c *checker) ok(step, format string, args ...any) {
	c.line("ok", step, fmt.Sprintf(format, args...))
}

// note prints a step that is worth a look, and lets the check go on.
func (c *checker) note(step, format string, args ...any) {
	c.line("look", step, fmt.Sprintf(format, args...))
}

// fail prints a step that has failed, with what to do. The error that it returns ends
// the check.
func (c *checker) fail(step, advice string, problem error) error {
	c.line("FAIL", step, problem.Error())
	fmt.Fprintf(c.out, "\n%s\n", advice)
	return errCheckFailed
}

var errCheckFailed = errors.New("the check has found a problem: see above")

func (c *checker) line(mark, step, text string) {
	took := time.Since(c.began).Round(time.Millisecond)
	fmt.Fprintf(c.out, "%-5s %-10s %8s   %s\n", mark, step, took, text)
	c.began = time.Now()
}

// check walks the way of a token.
func check(ctx context.Context, t target, p cdfauth.Provider, o options, out io.Writer) error {
	c := &checker{out: out, began: time.Now()}
	if t.address != "" {
		metadata, err := c.reach(ctx, t)
		if err != nil {
			return err
		}
		if t.metadata {
			err = c.judgeMetadata(t, metadata)
			if err != nil {
				return err
			}
		}
	}
	c.showCache(o.clientID)
	token, err := c.getToken(ctx, p)
	if err != nil {
		return err
	}
	claims := c.showToken(token)
	return c.askAPI(ctx, p, o, claims)
}

// reach sends one request to the identity provider, and prints what it learns on the
// way: names, connection, TLS, clock. It returns the body of the answer.
func (c *checker) reach(ctx context.Context, t target) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, t.address, nil)
	if err != nil {
		return nil, c.fail("address", "The address of the identity provider is not a URL. Copy it again.", err)
	}
	transport := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12},
	}
	proxy, err := transport.Proxy(r)
	if err != nil {
		return nil, c.fail("proxy", "HTTPS_PROXY does not hold the URL of a proxy: it looks like http://proxy.example.com:8080.", err)
	}
	peer := r.URL.Host
	if proxy != nil {
		peer = proxy.Host
		c.ok("proxy", "%s, from the environment (HTTPS_PROXY, NO_PROXY)", proxy.Redacted())
	} else {
		c.ok("proxy", "none in the environment")
	}

	way := &trace{checker: c, peer: peer}
	r = r.WithContext(httptrace.WithClientTrace(ctx, way.hooks()))
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return nil, way.explain(err, proxy)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, c.fail("answer", "The connection broke in the middle of an answer. Try again; a proxy or a firewall may cut it.", err)
	}
	err = c.judgeClock(resp.Header.Get("Date"))
	if err != nil {
		return nil, err
	}
	if t.metadata && resp.StatusCode != http.StatusOK {
		return nil, c.fail("metadata", metadataAdvice(resp.StatusCode, body),
			fmt.Errorf("%s answered %s", t.address, resp.Status))
	}
	return body, nil
}

// A trace prints the steps of a connection as net/http reports them.
type trace struct {
	*checker
	peer      string // host and port, of the identity provider or the proxy
	connected bool
	secured   bool
}

func (t *trace) hooks() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSDone: func(info httptrace.DNSDoneInfo) {
			if info.Err == nil {
				t.ok("name", "%s has %d addresses, such as %s", t.peer, len(info.Addrs), info.Addrs[0].String())
			}
		},
		ConnectDone: func(_, address string, err error) {
			if err == nil {
				t.connected = true
				t.ok("connect", "%s", address)
			}
		},
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			if err == nil {
				t.secured = true
				t.ok("TLS", "%s, the certificate is issued by %s", tls.VersionName(state.Version), issuerOf(state))
			}
		},
	}
}

// issuerOf names who issued a server's certificate. A company that intercepts TLS
// shows here.
func issuerOf(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 {
		return "nobody"
	}
	issuer := state.PeerCertificates[0].Issuer
	if len(issuer.Organization) > 0 {
		return issuer.Organization[0] + " (" + issuer.CommonName + ")"
	}
	return issuer.CommonName
}

// explain says what a failed request has failed at.
func (t *trace) explain(err error, proxy *url.URL) error {
	var noName *net.DNSError
	var unknown x509.UnknownAuthorityError
	var wrongHost x509.HostnameError
	var invalid x509.CertificateInvalidError
	via := ""
	if proxy != nil {
		via = " The way leads through the proxy " + proxy.Host + ": is it the right one?"
	}
	switch {
	case errors.As(err, &noName):
		return t.fail("name", "This computer does not know the name. Is it spelled right? Are you in the network, or the VPN,"+
			" that knows it? A proxy for it goes into HTTPS_PROXY."+via, err)
	case !t.connected:
		return t.fail("connect", "No connection opens. A firewall may forbid it, or the server may be down. A proxy goes into"+
			" HTTPS_PROXY."+via, err)
	case errors.As(err, &unknown):
		issuer := "somebody that this computer does not know"
		if unknown.Cert != nil {
			issuer = fmt.Sprintf("%q", unknown.Cert.Issuer.CommonName)
		}
		return t.fail("TLS", "The server's certificate was issued by "+issuer+". If that is your company, which reads what"+
			" goes through, its root certificate is missing: install it in the system, or set SSL_CERT_FILE (Linux), or give"+
			" Options.HTTPClient a Transport that trusts it.", err)
	case errors.As(err, &wrongHost):
		return t.fail("TLS", "Somebody else answers in place of the server: a captive portal, a proxy, or a wrong entry in the"+
			" hosts file.", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return t.fail("TLS", "The server's certificate is not valid now. Look at this computer's clock first.", err)
	case strings.Contains(err.Error(), "Proxy"):
		return t.fail("proxy", "The proxy refused the connection. It may want a name and a password, or forbid the address."+via, err)
	case errors.Is(err, context.DeadlineExceeded):
		return t.fail("answer", "The connection is open, and no answer comes. A firewall may swallow it; try again later."+via, err)
	default:
		return t.fail("TLS", "The connection opens, but what comes is not what was expected. Is it the right port, and https?"+via, err)
	}
}

// judgeClock compares this computer's clock with the Date of an answer.
func (c *checker) judgeClock(date string) error {
	server, err := http.ParseTime(date)
	if err != nil {
		c.note("clock", "the answer has no Date: nothing to compare with")
		return nil
	}
	ahead := time.Until(server).Round(time.Second) * -1
	if ahead.Abs() > 5*time.Minute {
		return c.fail("clock", "Set this computer's clock (and its time zone). Providers refuse assertions, and programs their own"+
			" tokens, if it is wrong by more than some minutes.", fmt.Errorf("this computer's clock is ahead by %v", ahead))
	}
	c.ok("clock", "%v ahead of the provider's", ahead)
	return nil
}

// metadataAdvice says what may be wrong where there is no metadata.
func metadataAdvice(status int, body []byte) string {
	switch {
	case strings.Contains(string(body), "AADSTS90002"), strings.Contains(string(body), "AADSTS900023"):
		return "Entra does not know the tenant. Compare it with the directory (tenant) ID in the Azure portal."
	case status == http.StatusNotFound:
		return "There is no metadata at this address. Is it the issuer's own address, without what follows it?" +
			" A provider without metadata is reached by -token-url."
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return "Something on the way refuses the address: a proxy or a firewall. It is not the provider, whose metadata is public."
	case status/100 == 3:
		return "The address leads elsewhere, and this package follows no redirect. Use the address that it leads to."
	default:
		return "The provider, or a proxy in front of it, has a problem of its own. Try again later."
	}
}

// judgeMetadata looks at what the metadata says.
func (c *checker) judgeMetadata(t target, body []byte) error {
	var m struct {
		Issuer        string `json:"issuer"`
		TokenEndpoint string `json:"token_endpoint"`
	}
	err := json.Unmarshal(body, &m)
	if err != nil || m.Issuer == "" || m.TokenEndpoint == "" {
		return c.fail("metadata", "What answers at this address is no OpenID provider: it may be a sign-in page of a proxy."+
			" Open the address in a browser to see.", errors.New("the answer is no metadata"))
	}
	if t.issuer != "" && strings.TrimSuffix(m.Issuer, "/") != t.issuer {
		return c.fail("metadata", "-issuer has to be what the provider calls itself: use the issuer above. If it is another one,"+
			" use -discovery.", fmt.Errorf("the issuer named there is %q", m.Issuer))
	}
	c.ok("metadata", "the issuer is %s", m.Issuer)
	return nil
}

// showCache tells what is in the file in which people's sign-ins are kept.
func (c *checker) showCache(clientID string) {
	path, err := cdfauth.DefaultCachePath(clientID)
	if clientID == "" || err != nil {
		return // the provider says what is wrong with it
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.ok("cache", "%s does not exist: nobody has signed in with this client here", path)
		return
	case err != nil:
		c.note("cache", "%v: people are asked to sign in at each start", err)
		return
	}
	content, err := os.ReadFile(path)
	if err != nil {
		c.note("cache", "%v: people are asked to sign in at each start", err)
		return
	}
	var sections map[string]map[string]struct {
		Username string `json:"username"`
	}
	err = json.Unmarshal(content, &sections)
	if err != nil {
		c.note("cache", "%s does not hold what a cache has: the next sign-in sets it aside", path)
		return
	}
	var people []string
	for _, account := range sections["Account"] {
		people = append(people, account.Username)
	}
	slices.Sort(people)
	age := time.Since(info.ModTime()).Round(time.Minute)
	c.ok("cache", "%s, mode %04o, written %v ago, %d access and %d refresh tokens, accounts %q",
		path, info.Mode().Perm(), age, len(sections["AccessToken"]), len(sections["RefreshToken"]), people)
	if len(people) > 1 {
		c.note("cache", "several people have signed in: LoginHint selects one")
	}
}

// getToken asks the provider for a token.
func (c *checker) getToken(ctx context.Context, p cdfauth.Provider) (cdfauth.Token, error) {
	token, err := p.Token(ctx)
	if err != nil {
		return cdfauth.Token{}, c.fail("token", tokenAdvice(err), err)
	}
	return token, nil
}

// tokenAdvice says what to do about an error of Token.
func tokenAdvice(err error) string {
	var answer *cdfauth.OAuthError
	if !errors.As(err, &answer) {
		if errors.Is(err, cdfauth.ErrSignInRequired) {
			return "A person has to sign in, and nobody can be asked here: use -flow device_code, or a terminal."
		}
		return "The identity provider was not reached, or the secret was not read: the error says which."
	}
	for _, known := range entraAdvice {
		if strings.Contains(answer.Description, known.code) {
			return known.advice
		}
	}
	switch answer.Code {
	case "invalid_client":
		return "The client id or its secret is wrong, or the secret has expired. Compare the id with the app registration, and" +
			" make a new secret: copy its value, not its id. With a certificate: has it been uploaded?"
	case "invalid_scope":
		return "The provider does not know a scope. For Entra it is https://{cluster}.cognitedata.com/.default: is the cluster right?"
	case "invalid_target":
		return "The provider does not know the audience or the resource: it is https://{cluster}.cognitedata.com for most."
	case "unauthorized_client", "unsupported_grant_type":
		return "This client may not use this flow. Permit it in the app registration, or use another flow."
	case "invalid_request":
		return "The provider misses a parameter, or knows one twice: its description says which. Some want -audience or -scopes."
	case "access_denied":
		return "The person, or an administrator's rule, declined."
	case "expired_token":
		return "Nobody entered the code in time. Start again."
	default:
		return "The provider refused. Its description, and the correlation id for its support, are above."
	}
}

// entraAdvice is what the errors of Microsoft Entra mean that people meet most, by the
// code that its descriptions begin with. See
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes.
var entraAdvice = []struct{ code, advice string }{
	{"AADSTS7000215", "The client secret is wrong. Copy the secret's value, not its id."},
	{"AADSTS7000222", "The client secret has expired. Make a new one in the app registration."},
	{"AADSTS7000218", "Entra wants a secret: switch \"Allow public client flows\" on in the app registration (Authentication)."},
	{"AADSTS700016", "The tenant does not know this client id. Is it the right tenant? Is it the application (client) id?"},
	{"AADSTS700027", "Entra does not know the certificate. Upload it to the app registration."},
	{"AADSTS90002", "Entra does not know the tenant. Compare it with the directory (tenant) ID in the Azure portal."},
	{"AADSTS500011", "The tenant does not know the API of this cluster. Is the cluster's name right? An administrator has to consent once."},
	{"AADSTS650052", "The tenant has not subscribed to the API of this cluster. An administrator has to consent once."},
	{"AADSTS65001", "Nobody has consented to this client. An administrator, or the person, has to."},
	{"AADSTS50011", "The redirect URI is not registered: add http://localhost:53000 as \"Mobile and desktop applications\"."},
	{"AADSTS70011", "A scope is wrong: it is https://{cluster}.cognitedata.com/.default."},
	{"AADSTS50076", "This tenant wants a second factor: use -flow interactive or device_code."},
	{"AADSTS53003", "A rule of the tenant (conditional access) forbids it: ask its administrator."},
}

// claims is what is shown of a token that is a JWT.
type claims struct {
	Issuer   string `json:"iss"`
	Audience any    `json:"aud"`
	Tenant   string `json:"tid"`
	App      string `json:"appid"`
	Party    string `json:"azp"`
	Person   string `json:"upn"`
	Name     string `json:"preferred_username"`
	Subject  string `json:"sub"`
	Scopes   string `json:"scp"`
	Roles    any    `json:"roles"`
}

// showToken prints what a token says, but not the token. It returns nil if the token
// is not a JWT.
func (c *checker) showToken(token cdfauth.Token) *claims {
	text := fmt.Sprintf("expires %s", in(token.Expiry()))
	if name := token.Username(); name != "" {
		text += ", of " + name
	}
	parts := strings.Split(token.AccessToken(), ".")
	var said claims
	if len(parts) == 3 {
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err == nil && json.Unmarshal(payload, &said) == nil {
			c.ok("token", "%s", text)
			c.ok("claims", "audience %v, issuer %s, tenant %s, application %s, person %s, scopes %q, roles %v",
				said.Audience, said.Issuer, either(said.Tenant), either(said.App, said.Party),
				either(said.Person, said.Name, said.Subject), said.Scopes, said.Roles)
			return &said
		}
	}
	c.ok("token", "%s; it is opaque: what is in it cannot be seen here", text)
	return nil
}

// either returns the first that is not empty.
func either(names ...string) string {
	for _, name := range names {
		if name != "" {
			return name
		}
	}
	return "-"
}

// askAPI asks CDF who the token is for.
func (c *checker) askAPI(ctx context.Context, p cdfauth.Provider, o options, said *claims) error {
	origin := apiOrigin(o)
	client, err := cdfauth.NewHTTPClient(p, origin)
	if err != nil {
		return c.fail("API", "Say which cluster it is about: -cluster greenfield.", err)
	}
	client.Timeout = time.Minute
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, origin+"/api/v1/token/inspect", nil)
	if err != nil {
		return c.fail("API", "The address of the API is not a URL.", err)
	}
	resp, err := client.Do(r)
	if err != nil {
		return c.fail("API", "The API was not reached. Does the cluster "+origin+" exist? The way to it may be another one than that"+
			" to the identity provider: a proxy, a private link (-api).", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return c.fail("API", refusedAdvice(origin, said), errors.New("the API answered 401: it does not take the token"))
	default:
		return c.fail("API", "The token is not the reason: the API, or something in front of it, has a problem of its own.",
			fmt.Errorf("the API answered %s", resp.Status))
	}
	who, err := readInspection(resp.Body)
	if err != nil {
		return c.fail("API", "What answers is not CDF. Is the address of the cluster right?", err)
	}
	if o.project != "" && !slices.Contains(who.projects, o.project) {
		return c.fail("project", "The token is good, but not for this project: somebody has to add the application, or the person's"+
			" group, to a group of the project in CDF. Is the project's name right?",
			fmt.Errorf("%q is not among the projects %q", o.project, who.projects))
	}
	if len(who.projects) == 0 {
		return c.fail("project", "The token is good, but for no project: somebody has to add the application, or the person's group,"+
			" to a group of a project in CDF.", errors.New("no project"))
	}
	c.ok("API", "%s knows %s", origin, who)
	return nil
}

// refusedAdvice says what does not fit where the API refuses a token.
func refusedAdvice(origin string, said *claims) string {
	const general = "The project has to trust this identity provider (in CDF: Admin, authentication), and the token has to be for this" +
		" cluster: see -scopes and -audience."
	if said == nil {
		return general
	}
	for _, audience := range audiences(said.Audience) {
		if strings.TrimRight(audience, "/") == origin {
			return "The token is for this cluster, but the project does not trust its issuer " + said.Issuer +
				" (in CDF: Admin, authentication)."
		}
	}
	return fmt.Sprintf("The token is for %v, and this is %s: ask for the scope %s/.default, or that audience.",
		said.Audience, origin, origin)
}

// audiences returns the aud of a JWT, which is a string or a list (RFC 7519 §4.1.3).
func audiences(aud any) []string {
	switch aud := aud.(type) {
	case string:
		return []string{aud}
	case []any:
		var all []string
		for _, one := range aud {
			if text, ok := one.(string); ok {
				all = append(all, text)
			}
		}
		return all
	}
	return nil
}
