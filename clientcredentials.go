package cdfauth

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
)

// This file is the client credentials flow (RFC 6749 §4.4): a program proves who it is and gets a token for itself. One request is
// sent, a POST of
//
//	grant_type=client_credentials, client_id, scope, Params
//
// with one of: client_secret in the body; the same as HTTP Basic; or a client_assertion, a JWT that somebody else has signed for it
// (RFC 7523 §2.2).

// ClientCredentialsConfig configures [NewClientCredentials].
type ClientCredentialsConfig struct {
	// Endpoint says where the identity provider is.
	Endpoint Endpoint
	// ClientID is the application's client id.
	ClientID string
	// ClientSecret is its secret, read anew for each exchange. Exactly one of it and ClientAssertion is wanted.
	ClientSecret Secret
	// ClientAssertion is a JWT made elsewhere (Kubernetes, GitHub, a vault) that is sent as it is: for workload identity
	// federation, SecretFile of the projected token.
	ClientAssertion Secret
	// BasicAuth sends ClientSecret as HTTP Basic (RFC 6749 §2.3.1: form-encoded first) instead of in the body.
	BasicAuth bool
	// Scopes are asked for together; none leaves the parameter out. For CDF with Entra: ClusterScopes.
	Scopes []string
	// Params are more parameters of the request, such as audience or resource. Those that are the flow's own are refused. They are
	// not secret.
	Params url.Values
	Options
}

// ClientCredentials is the provider of the client credentials flow.
type ClientCredentials struct{ engine *engine }

// NewClientCredentials returns a provider for programs that have a client secret, or an assertion from elsewhere. It checks cfg,
// names the field that is wrong, and does no I/O.
func NewClientCredentials(cfg ClientCredentialsConfig) (*ClientCredentials, error) {
	c, e, err := newClient("client credentials", cfg.Endpoint, cfg.ClientID, cfg.Scopes, cfg.Params, cfg.Options)
	if err != nil {
		return nil, err
	}
	secret, assertion, basic := cfg.ClientSecret, cfg.ClientAssertion, cfg.BasicAuth
	switch {
	case secret == nil && assertion == nil:
		return nil, errors.New("cdfauth: ClientSecret is missing (is its environment variable empty?), and so is ClientAssertion")
	case secret != nil && assertion != nil:
		return nil, errors.New("cdfauth: ClientSecret and ClientAssertion are both set: want one of them")
	case assertion != nil && basic:
		return nil, errors.New("cdfauth: BasicAuth is for ClientSecret, and ClientAssertion is set")
	case assertion != nil:
		e.silent = c.appToken(e, cfg.Cache, func(ctx context.Context, _ string, f *form) error {
			jwt, err := assertion.read(ctx, "ClientAssertion")
			f.setAssertion(jwt)
			return err
		})
	default:
		e.silent = c.appToken(e, cfg.Cache, func(ctx context.Context, _ string, f *form) error {
			s, err := secret.read(ctx, "ClientSecret")
			if basic {
				f.setBasicAuth(s)
			} else {
				f.Set("client_secret", s)
			}
			f.secrets = append(f.secrets, s)
			return err
		})
	}
	return &ClientCredentials{e}, nil
}

// Token returns an access token for the application. Its errors are those of the context; an [*OAuthError] when the identity provider
// refused; and what the Secret or the network had to say.
func (p *ClientCredentials) Token(ctx context.Context) (Token, error) { return (*app)(p).token(ctx) }

// Invalidate says that t was refused: if it is the current token, the next call of Token gets another. It may be called at any rate.
func (p *ClientCredentials) Invalidate(t Token) { (*app)(p).invalidate(t) }

// appToken is the silent phase of the flows without a user: one exchange, in which prove adds what authenticates the client.
func (c *client) appToken(e *engine, cache Cache, prove func(ctx context.Context, tokenURL string, f *form) error) func(context.Context) (issued, error) {
	const grant = "client_credentials"
	s := &store{client: c, engine: e, cache: cache, grant: grant}
	return s.forApp(func(ctx context.Context) (issued, error) {
		return c.exchange(ctx, grant, attempts, prove)
	})
}

// setAssertion authenticates the client by a JWT (RFC 7523 §2.2).
func (f *form) setAssertion(jwt string) {
	f.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	f.Set("client_assertion", jwt)
	f.secrets = append(f.secrets, jwt)
}

// setBasicAuth authenticates the client by HTTP Basic (RFC 6749 §2.3.1), which wants both parts form-encoded first. The client id
// is then said once, there.
func (f *form) setBasicAuth(secret string) {
	pair := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(f.Get("client_id")) + ":" + url.QueryEscape(secret)))
	f.Del("client_id")
	f.basicAuth = "Basic " + pair
	f.secrets = append(f.secrets, pair)
}
