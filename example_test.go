package cdfauth_test

import (
	"context"
	"crypto/rsa"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"cdfauth"
	"cdfauth/internal/idptest"
)

// The examples run against the embedded identity provider; a program of yours
// has Endpoint: cdfauth.Entra(tenantID), its own ids, and no HTTPClient.
var embedded = func() *idptest.Provider {
	p := idptest.New()
	p.Clients["my-client-id"] = "my-secret"
	return p
}()

func Example() {
	idp := idptest.New()
	idp.Clients["my-client-id"] = "my-secret"
	api, stop, err := idp.Listen() // an identity provider and an API on loopback
	if err != nil {
		log.Fatal(err)
	}
	defer stop()

	provider, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
		Endpoint:     cdfauth.Issuer(idp.Issuer), // yours: cdfauth.Entra(tenantID)
		ClientID:     "my-client-id",
		ClientSecret: cdfauth.SecretString("my-secret"), // yours: cdfauth.SecretString(os.Getenv("IDP_CLIENT_SECRET"))
		Scopes:       cdfauth.ClusterScopes("greenfield"),
	})
	if err != nil {
		log.Fatal(err)
	}
	client, err := cdfauth.NewHTTPClient(provider, api) // yours: cdfauth.ClusterURL("greenfield")
	if err != nil {
		log.Fatal(err)
	}
	for range 3 {
		resp, err := client.Get(api + "/api/v1/token/inspect")
		if err != nil {
			log.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	fmt.Println(idp.Tokens(), "token request")
	// Output:
	// 200 OK
	// 200 OK
	// 200 OK
	// 1 token request
}

func ExampleNewClientCredentials() {
	provider, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
		Endpoint:     cdfauth.TokenURL("https://idp.test/token"),
		ClientID:     "my-client-id",
		ClientSecret: cdfauth.SecretString("my-secret"),
		Scopes:       cdfauth.ClusterScopes("greenfield"),
		Options:      cdfauth.Options{HTTPClient: embedded.Client()},
	})
	if err != nil {
		log.Fatal(err)
	}
	token, err := provider.Token(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.Scope(), time.Until(token.Expiry()).Round(time.Minute))
	// Output: https://greenfield.cognitedata.com/.default 1h0m0s
}

func ExampleNewClientCertificate() {
	public, keyAndCertificate, err := idptest.NewCertificate()
	if err != nil {
		log.Fatal(err)
	}
	embedded.Keys = map[string]*rsa.PublicKey{"my-signing-client-id": public}

	provider, err := cdfauth.NewClientCertificate(cdfauth.ClientCertificateConfig{
		Endpoint:    cdfauth.Authority("https://idp.test/tenant"), // yours: cdfauth.Entra(tenantID)
		ClientID:    "my-signing-client-id",
		Certificate: cdfauth.SecretString(keyAndCertificate), // yours: cdfauth.SecretFile("tls.key", "tls.crt")
		Scopes:      cdfauth.ClusterScopes("greenfield"),
		Options:     cdfauth.Options{HTTPClient: embedded.Client()},
	})
	if err != nil {
		log.Fatal(err)
	}
	token, err := provider.Token(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.Scope(), time.Until(token.Expiry()).Round(time.Minute))
	// Output: https://greenfield.cognitedata.com/.default 1h0m0s
}

func ExampleNewFileCache() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cache, err := cdfauth.NewFileCache(filepath.Join(dir, "tokens.bin")) // yours: of the path that DefaultCachePath returns
	if err != nil {
		log.Fatal(err)
	}
	before := embedded.Tokens()
	for range 3 { // as if the program were started three times
		provider, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
			Endpoint:     cdfauth.TokenURL("https://idp.test/token"),
			ClientID:     "my-client-id",
			ClientSecret: cdfauth.SecretString("my-secret"),
			Options:      cdfauth.Options{HTTPClient: embedded.Client(), Cache: cache},
		})
		if err != nil {
			log.Fatal(err)
		}
		if _, err := provider.Token(context.Background()); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(embedded.Tokens()-before, "token request")
	// Output: 1 token request
}

func ExampleEncryptCache() {
	key := make([]byte, 32) // yours: from the system's key store, say
	cache, err := cdfauth.EncryptCache(&cdfauth.MemoryCache{}, key)
	if err != nil {
		log.Fatal(err)
	}
	provider, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
		Endpoint:     cdfauth.TokenURL("https://idp.test/token"),
		ClientID:     "my-client-id",
		ClientSecret: cdfauth.SecretString("my-secret"),
		Options:      cdfauth.Options{HTTPClient: embedded.Client(), Cache: cache},
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = provider.Token(context.Background())
	fmt.Println(err)
	// Output: <nil>
}

func ExampleNewStaticProvider() {
	provider, err := cdfauth.NewStaticProvider("my-token")
	if err != nil {
		log.Fatal(err)
	}
	token, err := provider.Token(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.AuthorizationHeader())
	// Output: Authorization Bearer my-token
}

func ExampleNewFuncProvider() {
	provider, err := cdfauth.NewFuncProvider(func(ctx context.Context) (cdfauth.Token, error) {
		// Get it from wherever tokens come from.
		return cdfauth.NewToken("from-my-vault", time.Now().Add(time.Hour))
	})
	if err != nil {
		log.Fatal(err)
	}
	token, err := provider.Token(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	r, _ := http.NewRequest("GET", "https://greenfield.cognitedata.com/api/v1/projects", nil)
	token.SetAuthHeader(r)
	fmt.Println(r.Header.Get("Authorization"))
	// Output: Bearer from-my-vault
}

func ExampleNewHTTPClient() {
	provider, err := cdfauth.NewStaticProvider("my-token")
	if err != nil {
		log.Fatal(err)
	}
	if _, err = cdfauth.NewHTTPClient(provider, "http://greenfield.cognitedata.com"); err != nil {
		fmt.Println(err)
	}
	client, err := cdfauth.NewHTTPClient(provider, cdfauth.ClusterURL("greenfield"))
	if err != nil {
		log.Fatal(err)
	}
	client.Timeout = time.Minute
	// Output: cdfauth: Transport: Origin must be https (http only for a loopback host)
}
