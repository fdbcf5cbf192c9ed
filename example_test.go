package cdfauth_test

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
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
	p.Interval = time.Second
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
		Endpoint: cdfauth.Issuer(idp.Issuer), // yours: cdfauth.Entra(tenantID)
		ClientID: "my-client-id",
		// Yours: cdfauth.SecretString(os.Getenv("IDP_CLIENT_SECRET")).
		ClientSecret: cdfauth.SecretString("my-secret"),
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
		Endpoint: cdfauth.Authority("https://idp.test/tenant"), // yours: cdfauth.Entra(tenantID)
		ClientID: "my-signing-client-id",
		// Yours: cdfauth.SecretFile("tls.key", "tls.crt").
		Certificate: cdfauth.SecretString(keyAndCertificate),
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
	// Yours: the path that DefaultCachePath returns.
	cache, err := cdfauth.NewFileCache(filepath.Join(dir, "tokens.bin"))
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

func ExampleNewDeviceCode() {
	provider, err := cdfauth.NewDeviceCode(cdfauth.DeviceCodeConfig{
		Endpoint: cdfauth.Issuer("https://idp.test"), // yours: cdfauth.Entra(tenantID)
		ClientID: "my-client-id",
		Scopes:   cdfauth.ClusterScopes("greenfield"),
		// Without it, URL and code are printed to standard error.
		ShowCode: func(_ context.Context, a cdfauth.DeviceAuthorization) error {
			fmt.Println("Open", a.VerificationURI, "and enter a code of", len(a.UserCode), "letters.")
			return nil
		},
		// Yours may leave Cache out: it is a file in the user's cache directory then.
		Options: cdfauth.Options{HTTPClient: embedded.Client(), Cache: &cdfauth.MemoryCache{}},
	})
	if err != nil {
		log.Fatal(err)
	}
	token, err := provider.Token(context.Background()) // asks the first time only
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.Username())
	// Output:
	// Open https://idp.test/device and enter a code of 8 letters.
	// ada@example.com
}

func ExampleNewInteractive() {
	idp := idptest.New() // on loopback, since a browser goes there too
	_, stop, err := idp.Listen()
	if err != nil {
		log.Fatal(err)
	}
	defer stop()

	provider, err := cdfauth.NewInteractive(cdfauth.InteractiveConfig{
		Endpoint: cdfauth.Issuer(idp.Issuer), // yours: cdfauth.Entra(tenantID)
		ClientID: "my-client-id",
		Scopes:   cdfauth.ClusterScopes("greenfield"),
		// Yours may leave the rest out: the redirect URI is http://localhost:53000 then,
		// as with Cognite's Python SDK, the browser is the system's, what to do is shown
		// on standard error, and the sign-in is kept in a file in the user's cache
		// directory.
		RedirectURL: "http://127.0.0.1:0/",
		OpenBrowser: func(_ context.Context, url string) error {
			go http.Get(url) // whose person signs in at once
			return nil
		},
		Output:  io.Discard,
		Options: cdfauth.Options{Cache: &cdfauth.MemoryCache{}},
	})
	if err != nil {
		log.Fatal(err)
	}
	token, err := provider.Token(context.Background()) // opens the browser the first time only
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.Username())
	if err := provider.SignOut(context.Background()); err != nil {
		log.Fatal(err)
	}
	_, err = provider.Token(cdfauth.WithoutInteraction(context.Background()))
	fmt.Println(err)
	// Output:
	// ada@example.com
	// cdfauth: sign-in required
}

// A program that runs in the background asks nobody: it says what has to be done.
func ExampleWithoutInteraction() {
	provider, err := cdfauth.NewDeviceCode(cdfauth.DeviceCodeConfig{
		Endpoint: cdfauth.Issuer("https://idp.test"),
		ClientID: "my-client-id",
		Options:  cdfauth.Options{HTTPClient: embedded.Client(), Cache: &cdfauth.MemoryCache{}},
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = provider.Token(cdfauth.WithoutInteraction(context.Background()))
	if errors.Is(err, cdfauth.ErrSignInRequired) {
		fmt.Println("run `my-tool login` first")
	}
	// Output: run `my-tool login` first
}

// The configuration that the Python SDK's CredentialProvider.load takes, in JSON.
func ExampleLoad() {
	provider, err := cdfauth.Load([]byte(`{
		"client_credentials": {
			"token_url": "https://idp.test/token",
			"client_id": "my-client-id",
			"client_secret": "my-secret",
			"scopes": ["https://greenfield.cognitedata.com/.default"]
		}
	}`), cdfauth.Options{HTTPClient: embedded.Client()})
	if err != nil {
		log.Fatal(err)
	}
	token, err := provider.Token(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.Scope())
	_, err = cdfauth.Load([]byte(`{"client_credentials": {"client_id": "my-client-id"}}`),
		cdfauth.Options{})
	fmt.Println(err)
	// Output:
	// https://greenfield.cognitedata.com/.default
	// cdfauth: Load: client_credentials: token_url is missing; client_secret is missing
}

// The Cognite toolkit's environment variables.
func ExampleFromEnv() {
	env := map[string]string{ // yours: nil for getenv, which is then os.Getenv
		"CDF_CLUSTER":       "greenfield",
		"PROVIDER":          "other",
		"LOGIN_FLOW":        "client_credentials",
		"IDP_TOKEN_URL":     "https://idp.test/token",
		"IDP_CLIENT_ID":     "my-client-id",
		"IDP_CLIENT_SECRET": "my-secret",
	}
	getenv := func(name string) string { return env[name] }
	provider, err := cdfauth.FromEnv(getenv, cdfauth.Options{HTTPClient: embedded.Client()})
	if err != nil {
		log.Fatal(err)
	}
	token, err := provider.Token(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.Scope())
	delete(env, "IDP_CLIENT_SECRET")
	_, err = cdfauth.FromEnv(getenv, cdfauth.Options{})
	fmt.Println(err)
	// Output:
	// https://greenfield.cognitedata.com/.default
	// cdfauth: FromEnv: IDP_CLIENT_SECRET is missing
}

func ExampleNewToken() {
	token, err := cdfauth.NewToken("my-token", time.Time{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.AccessToken()) // fmt.Println(token) would not show it
	_, err = cdfauth.NewToken("Bearer my-token", time.Time{})
	fmt.Println(err)
	// Output:
	// my-token
	// cdfauth: access token has a character that is not visible ASCII at byte 7 of 15 (it is wanted without the word Bearer, blanks or line ends)
}

// What an identity provider answered decides what to do.
func ExampleOAuthError() {
	provider, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
		Endpoint:     cdfauth.TokenURL("https://idp.test/token"),
		ClientID:     "my-client-id",
		ClientSecret: cdfauth.SecretString("not my secret"),
		Options:      cdfauth.Options{HTTPClient: embedded.Client()},
	})
	if err != nil {
		log.Fatal(err)
	}
	_, err = provider.Token(context.Background())
	if refused := (*cdfauth.OAuthError)(nil); errors.As(err, &refused) {
		fmt.Println(refused.StatusCode, refused.Code)
	}
	// Output: 401 invalid_client
}

// Endpoints that are bad are reported by the constructor that they are given to.
func ExampleEntra() {
	for _, endpoint := range []cdfauth.Endpoint{
		cdfauth.Entra("../../evil.com"),
		cdfauth.Authority("http://login.example.com/tenant"),
		cdfauth.Issuer("https://user:password@idp.example.com"),
		cdfauth.Discovery("https://idp.example.com/?x"),
		cdfauth.TokenURL("https://idp.example.com/token#x"),
	} {
		_, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{Endpoint: endpoint,
			ClientID: "my-client-id", ClientSecret: cdfauth.SecretString("my-secret")})
		fmt.Println(err)
	}
	// Output:
	// cdfauth: Endpoint is Entra("../../evil.com"): want a tenant's GUID or domain name
	// cdfauth: Endpoint must be https (http only for a loopback host)
	// cdfauth: Endpoint has a user name or a password in it
	// cdfauth: Endpoint has a query, which no path can follow
	// cdfauth: Endpoint has a fragment
}

// gitHubAssertion returns a ClientAssertion that asks GitHub Actions for a token
// of the job, which says what repository and branch it runs for. The workflow
// needs "permissions: id-token: write".
func gitHubAssertion(audience string) cdfauth.Secret {
	return func(ctx context.Context) (string, error) {
		address, err := url.Parse(os.Getenv("ACTIONS_ID_TOKEN_REQUEST_URL"))
		if err != nil {
			return "", err
		}
		query := address.Query()
		query.Set("audience", audience)
		address.RawQuery = query.Encode()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
		if err != nil {
			return "", err
		}
		req.Header.Set("Authorization", "Bearer "+os.Getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN"))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return "", fmt.Errorf("GitHub answered %s: has the job the permission id-token: write?", resp.Status)
		}
		var answer struct {
			Value string `json:"value"`
		}
		err = json.NewDecoder(resp.Body).Decode(&answer)
		return answer.Value, err
	}
}

// A job of GitHub Actions needs no secret, if the identity provider trusts GitHub:
// in Entra, by a federated credential of the app registration.
func ExampleClientCredentialsConfig_gitHubActions() {
	// Both are GitHub's and Entra's; here, one server stands in for them.
	const jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJyZXBvOm9jdG8vZGVtbyJ9.c2lnbmF0dXJl"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/github" && r.Header.Get("Authorization") == "Bearer job" &&
			r.FormValue("api-version") == "2" && r.FormValue("audience") == "api://AzureADTokenExchange":
			fmt.Fprintf(w, `{"count":1,"value":%q}`, jwt)
		case r.URL.Path == "/token" && r.FormValue("client_assertion") == jwt:
			fmt.Fprint(w, `{"access_token":"my-token","expires_in":3600}`)
		default:
			http.Error(w, r.URL.String(), http.StatusForbidden)
		}
	}))
	defer server.Close()
	os.Setenv("ACTIONS_ID_TOKEN_REQUEST_URL", server.URL+"/github?api-version=2") // GitHub sets both
	os.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "job")
	defer os.Unsetenv("ACTIONS_ID_TOKEN_REQUEST_URL")
	defer os.Unsetenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")

	provider, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
		Endpoint: cdfauth.TokenURL(server.URL + "/token"), // yours: cdfauth.Entra(tenantID)
		ClientID: "my-client-id",
		// Entra's; others want their own address.
		ClientAssertion: gitHubAssertion("api://AzureADTokenExchange"),
		Scopes:          cdfauth.ClusterScopes("greenfield"),
	})
	if err != nil {
		log.Fatal(err)
	}
	token, err := provider.Token(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(token.AccessToken())
	// Output: my-token
}
