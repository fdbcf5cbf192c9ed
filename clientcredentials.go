//go:build go1.24

package cdfauth

import (
	"context"
	"encoding/base64"
	"net/url"
)

// This file is the client credentials flow (RFC 6749 §4.4): a program proves
// who it is and gets a token for itself. It sends a POST of grant_type,
// client_id, scope and Params to the token endpoint. It proves who it is in one
// of three ways: with client_secret in the body, with identifier and secret in
// the Authorization header, or with client_assertion, a JWT that somebody else
// has signed.

// ClientCredentialsConfig configures [NewClientCredentials].
type ClientCredentialsConfig struct {
	// Endpoint says where the identity provider is.
	Endpoint Endpoint

	// ClientID is the identifier that the identity provider knows the
	// application by.
	ClientID string

	// ClientSecret is the secret of the application. Set either ClientSecret or
	// ClientAssertion.
	ClientSecret Secret

	// ClientAssertion is a JWT that was made elsewhere, for example by
	// Kubernetes, GitHub or a vault. It is sent as it is. For a projected
	// service account token, use [SecretFile].
	ClientAssertion Secret

	// BasicAuth says that ClientID and ClientSecret are sent in the Authorization
	// header (HTTP Basic) instead of in the body of the request. It must be false if
	// ClientAssertion is set.
	BasicAuth bool

	// Scopes are the scopes to ask for, each in an element of its own. Without
	// any, the parameter is left out. For CDF with Entra, use [ClusterScopes].
	Scopes []string

	// Params are more parameters of the request, such as audience or resource.
	// The constructor rejects parameters that the flow itself sets. The values are
	// not treated as secrets: errors may show them.
	Params url.Values

	Options
}

// ClientCredentials is the provider of the client credentials flow. Make one
// with [NewClientCredentials].
type ClientCredentials struct{ refresher *refresher }

// NewClientCredentials returns a provider for a program that has a client secret
// or an assertion. It copies and checks cfg, and does no I/O. Its error names the
// field that is wrong.
func NewClientCredentials(cfg ClientCredentialsConfig) (*ClientCredentials, error) {
	const flow = "client credentials"
	r := newRefresher(flow, cfg.Options)
	client, err := newClient(flow, cfg.Endpoint, cfg.ClientID, cfg.Scopes, cfg.Params,
		cfg.Options, &r.clock)
	if err != nil {
		return nil, err
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	r.silent = client.appPhase(r, cfg.Cache, cfg.authenticate)
	return &ClientCredentials{r}, nil
}

// check reports what is wrong with the fields that this flow alone has.
func (cfg *ClientCredentialsConfig) check() error {
	switch {
	case cfg.ClientSecret == nil && cfg.ClientAssertion == nil:
		return badField("ClientSecret",
			"is missing (is its environment variable empty?), and so is ClientAssertion")
	case cfg.ClientSecret != nil && cfg.ClientAssertion != nil:
		return badField("ClientSecret", "and ClientAssertion are both set: want one of them")
	case cfg.ClientAssertion != nil && cfg.BasicAuth:
		return badField("BasicAuth", "is for ClientSecret, and ClientAssertion is set")
	}
	return nil
}

// Token returns an access token for the application. Its error wraps that of ctx,
// an [*OAuthError], or the error of the Secret or of the network; or it says what
// is wrong with the secret, with the provider's metadata, or with its answer.
func (p *ClientCredentials) Token(ctx context.Context) (Token, error) {
	if p == nil || p.refresher == nil {
		return Token{}, errNotMade
	}
	return p.refresher.Token(ctx)
}

// Invalidate tells the provider that the API has refused t. If t is the current
// token, the next call of Token requests another one. If the request fails, or may
// not be sent yet, Token returns t until it expires. Invalidate may be called at
// any rate: it leads to one refresh in 10 seconds at most.
func (p *ClientCredentials) Invalidate(t Token) {
	if p != nil && p.refresher != nil {
		p.refresher.Invalidate(t)
	}
}

// authenticate is the flow's prepareFunc. It adds to a token request what proves who
// the client is. A request must not do so in more than one way (RFC 6749 §2.3). The
// address of the token endpoint makes no difference here.
func (cfg *ClientCredentialsConfig) authenticate(
	ctx context.Context, _ string, request *tokenRequest,
) error {
	// RFC 7523 §2.2
	if cfg.ClientAssertion != nil {
		assertion, err := cfg.ClientAssertion.readLine(ctx, "ClientAssertion", assertionProblem)
		if err != nil {
			return err
		}
		request.setAssertion(assertion)
		return nil
	}

	secret, err := cfg.ClientSecret.readLine(ctx, "ClientSecret", clientSecretProblem)
	if err != nil {
		return err
	}
	request.secrets = append(request.secrets, secret)

	// RFC 6749 §2.3.1, the client's identifier and secret in the body.
	if !cfg.BasicAuth {
		request.Set("client_secret", secret)
		return nil
	}

	// RFC 6749 §2.3.1, HTTP Basic: both parts are form-encoded first. The
	// client's identifier is then not repeated in the body.
	credentials := url.QueryEscape(cfg.ClientID) + ":" + url.QueryEscape(secret)
	encoded := base64.StdEncoding.EncodeToString([]byte(credentials))
	request.secrets = append(request.secrets, encoded)
	request.basicAuth = "Basic " + encoded
	request.Del("client_id")
	return nil
}
