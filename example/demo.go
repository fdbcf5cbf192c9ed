package main

import (
	"context"
	"crypto/rsa"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"cdfauth"
	"cdfauth/internal/idptest"
)

// demo gets a token by each flow from the embedded identity provider and calls
// the API with it.
func demo(ctx context.Context, out io.Writer) error {
	idp := idptest.New()
	api, stop, err := idp.Listen()
	if err != nil {
		return err
	}
	defer stop()
	secret := cdfauth.SecretString(idp.Clients["client"])
	static, err := staticToken(ctx, idp, secret)
	if err != nil {
		return err
	}

	public, keyAndCertificate, err := idptest.NewCertificate()
	if err != nil {
		return err
	}
	idp.Keys = map[string]*rsa.PublicKey{"signing-client": public}

	cache := &cdfauth.MemoryCache{} // a program of yours: NewFileCache(path)

	flows := []struct {
		name string
		make func() (cdfauth.Provider, error)
	}{
		{"static token", func() (cdfauth.Provider, error) { return cdfauth.NewStaticProvider(static.AccessToken()) }},
		{"token function", func() (cdfauth.Provider, error) {
			return cdfauth.NewFuncProvider(func(ctx context.Context) (cdfauth.Token, error) { return staticToken(ctx, idp, secret) })
		}},
		{"client credentials, secret in the body", func() (cdfauth.Provider, error) {
			return cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
				Endpoint: cdfauth.TokenURL(idp.Issuer + "/token"), ClientID: "client", ClientSecret: secret, Scopes: cdfauth.ClusterScopes("greenfield"),
			})
		}},
		{"client credentials, HTTP Basic, by discovery", func() (cdfauth.Provider, error) {
			return cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
				Endpoint: cdfauth.Issuer(idp.Issuer), ClientID: "client", ClientSecret: secret, BasicAuth: true,
			})
		}},
		{"client credentials with a cache, first start", func() (cdfauth.Provider, error) { return cached(idp, secret, cache) }},
		{"client credentials with a cache, second start", func() (cdfauth.Provider, error) { return cached(idp, secret, cache) }},
		{"client certificate, Entra-style", func() (cdfauth.Provider, error) {
			return cdfauth.NewClientCertificate(cdfauth.ClientCertificateConfig{
				Endpoint: cdfauth.Authority(idp.Issuer + "/tenant"), ClientID: "signing-client", Certificate: cdfauth.SecretString(keyAndCertificate), Scopes: cdfauth.ClusterScopes("greenfield"),
			})
		}},
	}

	const calls = 100
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "FLOW\tAPI CALLS\tTOKEN REQUESTS\tTOKEN EXPIRES\tAPI ANSWER")
	for _, flow := range flows {
		p, err := flow.make()
		if err != nil {
			return fmt.Errorf("%s: %w", flow.name, err)
		}
		client, err := cdfauth.NewHTTPClient(p, api)
		if err != nil {
			return fmt.Errorf("%s: %w", flow.name, err)
		}
		client.Timeout = time.Minute
		before, answer := idp.Tokens(), ""
		for range calls {
			if answer, err = ask(ctx, client, api); err != nil {
				return fmt.Errorf("%s: %w", flow.name, err)
			}
		}
		token, err := p.Token(ctx) // from memory
		if err != nil {
			return fmt.Errorf("%s: %w", flow.name, err)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\n", flow.name, calls, idp.Tokens()-before, in(token.Expiry()), answer)
	}
	return w.Flush()
}

func cached(idp *idptest.Provider, secret cdfauth.Secret, cache cdfauth.Cache) (cdfauth.Provider, error) {
	return cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
		Endpoint: cdfauth.Issuer(idp.Issuer), ClientID: "client", ClientSecret: secret, Options: cdfauth.Options{Cache: cache},
	})
}

// staticToken stands for wherever a program may have a token from already.
func staticToken(ctx context.Context, idp *idptest.Provider, secret cdfauth.Secret) (cdfauth.Token, error) {
	p, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{Endpoint: cdfauth.TokenURL(idp.Issuer + "/token"), ClientID: "client", ClientSecret: secret})
	if err != nil {
		return cdfauth.Token{}, err
	}
	return p.Token(ctx)
}
