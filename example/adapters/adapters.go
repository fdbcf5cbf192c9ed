// Package adapters fits a cdfauth.Provider into libraries that want tokens in a shape of their own. It is a module of its own, so that
// cdfauth needs none of them: copy what you need.
package adapters

import (
	"context"

	"cdfauth"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/oauth2"
	"sigs.k8s.io/yaml"
)

// TokenSource is an oauth2.TokenSource. Its Token method has no context, so it gets one here, for as long as the source is used. Do not
// wrap it in an oauth2.ReuseTokenSource: the provider keeps tokens itself, and refreshes them without making anybody wait.
func TokenSource(ctx context.Context, p cdfauth.Provider) oauth2.TokenSource { return source{ctx, p} }

type source struct {
	ctx context.Context
	p   cdfauth.Provider
}

func (s source) Token() (*oauth2.Token, error) {
	t, err := s.p.Token(s.ctx)
	if err != nil {
		return nil, err
	}
	return &oauth2.Token{AccessToken: t.AccessToken(), TokenType: "Bearer", Expiry: t.Expiry()}, nil
}

// Credential is an azcore.TokenCredential. Which scopes, tenant and claims a token is for was said to the provider's constructor; what a
// client asks for here cannot change it.
type Credential struct{ Provider cdfauth.Provider }

// GetToken implements azcore.TokenCredential. Its callers keep tokens as well, and ask again from five minutes before expiry on.
func (c Credential) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	t, err := c.Provider.Token(ctx)
	return azcore.AccessToken{Token: t.AccessToken(), ExpiresOn: t.Expiry()}, err
}

// TokenFunc returns the provider as the function that clients with an API of
// func() (string, error) take. ctx is for as long as the function is used.
func TokenFunc(ctx context.Context, p cdfauth.Provider) func() (string, error) {
	return func() (string, error) {
		t, err := p.Token(ctx)
		return t.AccessToken(), err
	}
}

// LoadYAML is cdfauth.Load for a configuration in YAML, which is the Python SDK's most
// common form.
func LoadYAML(config []byte, o cdfauth.Options) (cdfauth.Provider, error) {
	json, err := yaml.YAMLToJSON(config)
	if err != nil {
		return nil, err
	}
	return cdfauth.Load(json, o)
}
