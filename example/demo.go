package main

import (
	"context"
	"crypto/rsa"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
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

	dir, err := os.MkdirTemp("", "cdfauth-example")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// A program of yours would use the path that DefaultCachePath returns; and it may
	// leave the cache out of the two flows of a person, which have one.
	cache, err := cdfauth.NewFileCache(filepath.Join(dir, "cache.bin"))
	if err != nil {
		return err
	}
	options := cdfauth.Options{Cache: cache}
	idp.Interval = time.Second // the person who enters device codes is a program, and quick

	flows := []struct {
		name string
		make func() (cdfauth.Provider, error)
	}{
		{"static token", func() (cdfauth.Provider, error) {
			return cdfauth.NewStaticProvider(static.AccessToken())
		}},
		{"token function", func() (cdfauth.Provider, error) {
			return cdfauth.NewFuncProvider(func(ctx context.Context) (cdfauth.Token, error) {
				return staticToken(ctx, idp, secret)
			})
		}},
		{"client credentials, secret in the body", func() (cdfauth.Provider, error) {
			return cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
				Endpoint:     cdfauth.TokenURL(idp.Issuer + "/token"),
				ClientID:     "client",
				ClientSecret: secret,
				Scopes:       cdfauth.ClusterScopes("greenfield"),
			})
		}},
		{"client credentials, HTTP Basic, by discovery", func() (cdfauth.Provider, error) {
			return cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
				Endpoint:     cdfauth.Issuer(idp.Issuer),
				ClientID:     "client",
				ClientSecret: secret,
				BasicAuth:    true,
			})
		}},
		{"client credentials with a cache, first start", func() (cdfauth.Provider, error) {
			return cached(idp, secret, options)
		}},
		{"client credentials with a cache, second start", func() (cdfauth.Provider, error) {
			return cached(idp, secret, options)
		}},
		{"client certificate, Entra-style", func() (cdfauth.Provider, error) {
			return cdfauth.NewClientCertificate(cdfauth.ClientCertificateConfig{
				Endpoint:    cdfauth.Authority(idp.Issuer + "/tenant"),
				ClientID:    "signing-client",
				Certificate: cdfauth.SecretString(keyAndCertificate),
				Scopes:      cdfauth.ClusterScopes("greenfield"),
			})
		}},
		{"device code: somebody enters it", func() (cdfauth.Provider, error) {
			return deviceCode(idp, options)
		}},
		{"device code, second start: nobody is asked", func() (cdfauth.Provider, error) {
			return deviceCode(idp, options)
		}},
		{"interactive: somebody signs in in the browser", func() (cdfauth.Provider, error) {
			return interactive(idp, options)
		}},
		{"interactive, second start: nobody is asked", func() (cdfauth.Provider, error) {
			return interactive(idp, options)
		}},
	}

	const calls = 100
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "FLOW\tSIGN-INS\tTOKEN REQUESTS\tAPI CALLS\tTOKEN EXPIRES\tAPI ANSWER")
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
		before := idp.Tokens()
		signIns := asked(idp)
		answer := ""
		for range calls {
			answer, err = ask(ctx, client, api)
			if err != nil {
				return fmt.Errorf("%s: %w", flow.name, err)
			}
		}
		token, err := p.Token(ctx) // from memory
		if err != nil {
			return fmt.Errorf("%s: %w", flow.name, err)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\n",
			flow.name, asked(idp)-signIns, idp.Tokens()-before, calls, in(token.Expiry()), answer)
	}
	return w.Flush()
}

// asked is how often somebody was asked to sign in.
func asked(idp *idptest.Provider) int {
	return len(idp.Requests("/devicecode")) + len(idp.Requests("/authorize"))
}

// cached keeps its token in a cache.
func cached(idp *idptest.Provider, secret cdfauth.Secret, o cdfauth.Options) (cdfauth.Provider, error) {
	return cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
		Endpoint:     cdfauth.Issuer(idp.Issuer),
		ClientID:     "client",
		ClientSecret: secret,
		Options:      o,
	})
}

// deviceCode shows its code to nobody: the provider's person enters every one.
func deviceCode(idp *idptest.Provider, o cdfauth.Options) (cdfauth.Provider, error) {
	return cdfauth.NewDeviceCode(cdfauth.DeviceCodeConfig{
		Endpoint: cdfauth.Issuer(idp.Issuer + "/devices"),
		ClientID: "app",
		Scopes:   cdfauth.ClusterScopes("greenfield"),
		ShowCode: func(context.Context, cdfauth.DeviceAuthorization) error { return nil },
		Options:  o,
	})
}

// interactive has a browser that follows where it is sent, and a person behind it who
// says yes.
func interactive(idp *idptest.Provider, o cdfauth.Options) (cdfauth.Provider, error) {
	return cdfauth.NewInteractive(cdfauth.InteractiveConfig{
		Endpoint:    cdfauth.Issuer(idp.Issuer + "/browsers"),
		ClientID:    "app",
		Scopes:      cdfauth.ClusterScopes("greenfield"),
		RedirectURL: "http://127.0.0.1:0/",
		Output:      io.Discard,
		Options:     o,
		OpenBrowser: func(_ context.Context, address string) error {
			go func() {
				resp, err := http.Get(address)
				if err == nil {
					resp.Body.Close()
				}
			}()
			return nil
		},
	})
}

// staticToken stands for wherever a program may have a token from already.
func staticToken(ctx context.Context, idp *idptest.Provider, secret cdfauth.Secret) (cdfauth.Token, error) {
	p, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
		Endpoint:     cdfauth.TokenURL(idp.Issuer + "/token"),
		ClientID:     "client",
		ClientSecret: secret,
	})
	if err != nil {
		return cdfauth.Token{}, err
	}
	return p.Token(ctx)
}
