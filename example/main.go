// The example shows every flow of cdfauth.
//
// Without flags it needs nothing and nobody: it starts an identity provider
// and a small API on loopback, gets a token by each flow, calls the API with
// it, and prints a table.
//
// With -flow it signs in for real and asks CDF who the token is for:
//
//	go run ./example -flow interactive -tenant … -client-id … -cluster greenfield
//	IDP_CLIENT_SECRET=… go run ./example -flow client_credentials -tenant … -client-id … -cluster greenfield
//
// or by what Cognite's users have already, -flow env (the toolkit's variables)
// and -config (a file for the Python SDK's CredentialProvider.load, in JSON):
//
//	go run ./example -flow env -cluster greenfield
//
// Secrets come from the environment alone, and no token is ever printed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"

	"cdfauth"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	switch oe := (*cdfauth.OAuthError)(nil); {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case errors.As(err, &oe) && oe.Code == "invalid_client":
		fmt.Fprintln(os.Stderr, err, "\nIs the secret the right one, and has it expired?")
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// options are the flags of a real sign-in.
type options struct {
	flow, tenant, authority, issuer, discovery, tokenURL string
	clientID, cluster, scopes, audience                  string
	certificate, thumbprint, config                      string
	basic, verbose, signOut                              bool
}

func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	var o options
	f := flag.NewFlagSet("example", flag.ContinueOnError)
	f.StringVar(&o.flow, "flow", "", "sign in for real by this flow: client_credentials (secret in IDP_CLIENT_SECRET), client_certificate (-certificate; passphrase in IDP_PASSPHRASE), interactive, device_code, token (in CDF_TOKEN) or env (the Cognite toolkit's variables)")
	f.StringVar(&o.tenant, "tenant", "", "Entra tenant, a GUID or a domain name")
	f.StringVar(&o.authority, "authority", "", "or: URL of an Entra-style authority")
	f.StringVar(&o.issuer, "issuer", "", "or: URL of an OpenID provider")
	f.StringVar(&o.discovery, "discovery", "", "or: Cognite's oauth_discovery_url")
	f.StringVar(&o.tokenURL, "token-url", "", "or: URL of a token endpoint")
	f.StringVar(&o.clientID, "client-id", "", "client id")
	f.StringVar(&o.cluster, "cluster", "", "CDF cluster, such as greenfield or westeurope-1")
	f.StringVar(&o.scopes, "scopes", "", "scopes, separated by commas; default: the cluster's /.default with -tenant and -authority, none otherwise")
	f.StringVar(&o.audience, "audience", "", "audience parameter, for providers that want one")
	f.StringVar(&o.certificate, "certificate", "", "PEM files of the key and its certificate, separated by commas")
	f.StringVar(&o.thumbprint, "thumbprint", "", "thumbprint of the certificate, if it is in no file")
	f.StringVar(&o.config, "config", "", "instead of -flow: a JSON file with what the Python SDK's CredentialProvider.load takes")
	f.BoolVar(&o.signOut, "sign-out", false, "forget who is signed in (interactive, device_code), and do nothing else")
	f.BoolVar(&o.basic, "basic", false, "send the client secret as HTTP Basic")
	f.BoolVar(&o.verbose, "v", false, "log each exchange to standard error")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.flow == "" && o.config == "" {
		if f.NFlag() > 0 {
			return errors.New("-flow is missing: say which flow to sign in by")
		}
		return demo(ctx, out)
	}
	p, err := provider(o, getenv)
	if err != nil {
		return err
	}
	if o.signOut {
		person, ok := p.(interface{ SignOut(context.Context) error })
		if !ok {
			return errors.New("-sign-out is for the flows of a person")
		}
		return person.SignOut(ctx)
	}
	return inspect(ctx, p, o.cluster, out)
}

// provider makes the provider that the flags ask for.
func provider(o options, getenv func(string) string) (cdfauth.Provider, error) {
	var opts cdfauth.Options
	if o.verbose {
		opts.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	if o.config != "" {
		b, err := os.ReadFile(o.config)
		if err != nil {
			return nil, err
		}
		return cdfauth.Load(b, opts)
	}
	var endpoint cdfauth.Endpoint
	var scopes []string
	switch {
	case o.tenant != "":
		endpoint, scopes = cdfauth.Entra(o.tenant), cdfauth.ClusterScopes(o.cluster)
	case o.authority != "":
		endpoint, scopes = cdfauth.Authority(o.authority), cdfauth.ClusterScopes(o.cluster)
	case o.issuer != "":
		endpoint = cdfauth.Issuer(o.issuer)
	case o.discovery != "":
		endpoint = cdfauth.Discovery(o.discovery)
	case o.tokenURL != "":
		endpoint = cdfauth.TokenURL(o.tokenURL)
	}
	if o.scopes != "" {
		scopes = strings.Split(o.scopes, ",")
	}
	params := url.Values{}
	if o.audience != "" {
		params.Set("audience", o.audience)
	}
	switch o.flow {
	case "token":
		return cdfauth.NewStaticProvider(getenv("CDF_TOKEN"))
	case "env":
		return cdfauth.FromEnv(getenv, opts)
	case "interactive":
		return cdfauth.NewInteractive(cdfauth.InteractiveConfig{Endpoint: endpoint, ClientID: o.clientID, Scopes: scopes, Params: params, Options: opts})
	case "device_code":
		return cdfauth.NewDeviceCode(cdfauth.DeviceCodeConfig{Endpoint: endpoint, ClientID: o.clientID, Scopes: scopes, Params: params, Options: opts})
	case "client_credentials":
		return cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
			Endpoint:     endpoint,
			ClientID:     o.clientID,
			ClientSecret: cdfauth.SecretString(getenv("IDP_CLIENT_SECRET")),
			BasicAuth:    o.basic,
			Scopes:       scopes,
			Params:       params,
			Options:      opts,
		})
	case "client_certificate":
		return cdfauth.NewClientCertificate(cdfauth.ClientCertificateConfig{
			Endpoint:    endpoint,
			ClientID:    o.clientID,
			Certificate: cdfauth.SecretFile(strings.Split(o.certificate, ",")...),
			Passphrase:  cdfauth.SecretString(getenv("IDP_PASSPHRASE")),
			Thumbprint:  o.thumbprint,
			Scopes:      scopes,
			Params:      params,
			Options:     opts,
		})
	}
	return nil, fmt.Errorf("-flow %q is none of: client_credentials, client_certificate, interactive, device_code, token, env", o.flow)
}

// inspect asks CDF who the token is for.
func inspect(ctx context.Context, p cdfauth.Provider, cluster string, out io.Writer) error {
	origin := cdfauth.ClusterURL(cluster)
	client, err := cdfauth.NewHTTPClient(p, origin)
	if err != nil {
		return err
	}
	client.Timeout = time.Minute
	who, err := ask(ctx, client, origin)
	if err != nil {
		return err
	}
	token, err := p.Token(ctx) // from memory
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "CDF at %s knows this token: %s; it expires %s.\n", origin, who, in(token.Expiry()))
	return nil
}

// ask calls the API and says what it answered.
func ask(ctx context.Context, client *http.Client, origin string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, origin+"/api/v1/token/inspect", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the API answered %s", resp.Status)
	}
	var who struct {
		Subject  string
		Projects []struct{ ProjectURLName string }
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&who); err != nil {
		return "", errors.New("the API's answer is not JSON")
	}
	projects := make([]string, len(who.Projects))
	for i, p := range who.Projects {
		projects[i] = p.ProjectURLName
	}
	return fmt.Sprintf("%q, projects %q", who.Subject, projects), nil
}

// in says when a token expires in a newcomer's words.
func in(expiry time.Time) string {
	if expiry.IsZero() {
		return "at an unknown time"
	}
	return "in " + time.Until(expiry).Round(time.Second).String()
}
