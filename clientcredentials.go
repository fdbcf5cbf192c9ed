//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"encoding/base64"
	"net/url"
)

// This file is the client credentials flow (RFC 6749 §4.4): a program proves who it is and gets a token for itself. One request is sent, a POST of grant_type,
// client_id, scope and Params with one of: client_secret in the body; the same as HTTP Basic; or a client_assertion, a JWT signed elsewhere (RFC 7523 §2.2).

// ClientCredentialsConfig configures [NewClientCredentials].
type ClientCredentialsConfig struct {
	Endpoint        Endpoint   // where the identity provider is
	ClientID        string     // of the application
	ClientSecret    Secret     // of the application, read anew for each exchange; exactly one of it and ClientAssertion is wanted
	ClientAssertion Secret     // a JWT made elsewhere (Kubernetes, GitHub, a vault), sent as it is: SecretFile of the projected token
	BasicAuth       bool       // sends ClientSecret as HTTP Basic (RFC 6749 §2.3.1: form-encoded first) instead of in the body
	Scopes          []string   // asked for together; none leaves the parameter out; for CDF with Entra: ClusterScopes
	Params          url.Values // more parameters of the request, such as audience or resource; those that are the flow's own are refused; not secret
	Options
}

// ClientCredentials is the provider of the client credentials flow.
type ClientCredentials struct{ refresher *refresher }

// NewClientCredentials returns a provider for programs that have a client secret, or an assertion. It checks cfg, names the field that is wrong, and does no I/O.
func NewClientCredentials(cfg ClientCredentialsConfig) (*ClientCredentials, error) {
	e := newRefresher("client credentials", cfg.Options)
	c, err := newClient("client credentials", cfg.Endpoint, cfg.ClientID, cfg.Scopes, cfg.Params, cfg.Options, &e.clock)
	if err = cmp.Or(err, refuse("cdfauth: ", []refusal{
		{cfg.ClientSecret == nil && cfg.ClientAssertion == nil, "ClientSecret is missing (is its environment variable empty?), and so is ClientAssertion"},
		{cfg.ClientSecret != nil && cfg.ClientAssertion != nil, "ClientSecret and ClientAssertion are both set: want one of them"},
		{cfg.ClientAssertion != nil && cfg.BasicAuth, "BasicAuth is for ClientSecret, and ClientAssertion is set"},
	})); err != nil {
		return nil, err
	}
	e.silent = c.appToken(e, cfg.Cache, func(ctx context.Context, _ string, f *tokenRequest) error {
		if cfg.ClientAssertion != nil {
			return f.setAssertion(cfg.ClientAssertion.read(ctx, "ClientAssertion"))
		}
		s, err := cfg.ClientSecret.read(ctx, "ClientSecret")
		f.secrets = append(f.secrets, s)
		if !cfg.BasicAuth {
			f.Set("client_secret", s)
			return err
		}
		// RFC 6749 §2.3.1: both parts are form-encoded first; the client id is then said once, here.
		pair := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(c.id) + ":" + url.QueryEscape(s)))
		f.Del("client_id")
		f.basicAuth, f.secrets = "Basic "+pair, append(f.secrets, pair)
		return err
	})
	return &ClientCredentials{e}, nil
}

// Token returns an access token for the application. Its errors are those of the context, an [*OAuthError], or the Secret's or the network's.
func (p *ClientCredentials) Token(ctx context.Context) (Token, error) {
	if p == nil || p.refresher == nil {
		return Token{}, errNotMade
	}
	return p.refresher.Token(ctx)
}

// Invalidate says that t was refused: if it is the current token, the next call of Token gets another. It may be called at any rate.
func (p *ClientCredentials) Invalidate(t Token) {
	if p != nil && p.refresher != nil {
		p.refresher.Invalidate(t)
	}
}
