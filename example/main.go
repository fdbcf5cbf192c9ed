// The example shows every flow of cdfauth.
//
// Without flags it needs nothing and nobody: it starts an identity provider and a
// small API on loopback, gets a token by each flow, calls the API with it, and prints
// a table.
//
// With -flow it signs in for real and asks CDF who the token is for:
//
//	go run ./example -flow interactive -tenant … -client-id … -cluster greenfield
//	IDP_CLIENT_SECRET=… go run ./example -flow client_credentials -tenant … -client-id … -cluster greenfield
//
// or with what Cognite's users have already: -flow env takes the toolkit's variables,
// and -config a file for the Python SDK's CredentialProvider.load, in JSON:
//
//	go run ./example -flow env -cluster greenfield
//
// With -check as well it walks the way of the token step by step, and says at the
// first that fails what to do.
//
// Secrets come from the environment alone, and no token is ever printed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"strings"

	"cdfauth"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case errors.Is(err, errCheckFailed):
		os.Exit(1) // it has said why
	default:
		fmt.Fprintln(os.Stderr, err)
		fmt.Fprintln(os.Stderr, "With -check as well, this program says which step fails and what to do.")
		os.Exit(1)
	}
}

// options are the flags of a real sign-in.
type options struct {
	flow        string
	tenant      string
	authority   string
	issuer      string
	discovery   string
	tokenURL    string
	clientID    string
	cluster     string
	project     string
	api         string
	scopes      string
	audience    string
	certificate string
	thumbprint  string
	loginHint   string
	config      string
	basic       bool
	verbose     bool
	signOut     bool
	check       bool
}

func (o *options) flags(f *flag.FlagSet) {
	f.StringVar(&o.flow, "flow", "", "sign in for real by this flow: client_credentials (secret in IDP_CLIENT_SECRET),"+
		" client_certificate (-certificate; passphrase in IDP_PASSPHRASE), interactive, device_code, token (in CDF_TOKEN)"+
		" or env (the Cognite toolkit's variables)")
	f.StringVar(&o.tenant, "tenant", "", "Entra tenant, a GUID or a domain name")
	f.StringVar(&o.authority, "authority", "", "or: URL of an Entra-style authority")
	f.StringVar(&o.issuer, "issuer", "", "or: URL of an OpenID provider")
	f.StringVar(&o.discovery, "discovery", "", "or: Cognite's oauth_discovery_url")
	f.StringVar(&o.tokenURL, "token-url", "", "or: URL of a token endpoint")
	f.StringVar(&o.clientID, "client-id", "", "client id")
	f.StringVar(&o.cluster, "cluster", "", "CDF cluster, such as greenfield or westeurope-1")
	f.StringVar(&o.project, "project", "", "CDF project that -check looks for")
	f.StringVar(&o.api, "api", "", "instead of -cluster: the API's origin, for a private link")
	f.StringVar(&o.scopes, "scopes", "", "scopes, separated by commas; default: the cluster's /.default with -tenant and -authority")
	f.StringVar(&o.audience, "audience", "", "audience parameter, for providers that want one")
	f.StringVar(&o.certificate, "certificate", "", "PEM files of the key and its certificate, separated by commas")
	f.StringVar(&o.thumbprint, "thumbprint", "", "thumbprint of the certificate, if it is in no file")
	f.StringVar(&o.loginHint, "login-hint", "", "user name that is meant, if several people have signed in")
	f.StringVar(&o.config, "config", "", "instead of -flow: a JSON file with what the Python SDK's CredentialProvider.load takes")
	f.BoolVar(&o.signOut, "sign-out", false, "forget who is signed in (interactive, device_code), and do nothing else")
	f.BoolVar(&o.check, "check", false, "find out why it does not work: walk the way of the token step by step")
	f.BoolVar(&o.basic, "basic", false, "send the client secret as HTTP Basic")
	f.BoolVar(&o.verbose, "v", false, "log each exchange to standard error")
}

func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	var o options
	f := flag.NewFlagSet("example", flag.ContinueOnError)
	o.flags(f)
	err := f.Parse(args)
	if err != nil {
		return err
	}
	switch {
	case f.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	case f.NFlag() == 0:
		return demo(ctx, out)
	case o.flow == "" && o.config == "":
		return errors.New("-flow is missing: say which flow to sign in by")
	}

	var opts cdfauth.Options
	if o.verbose {
		opts.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	p, where, err := provider(o, getenv, opts)
	if err != nil {
		return err
	}
	switch {
	case o.signOut:
		person, ok := p.(interface{ SignOut(context.Context) error })
		if !ok {
			return errors.New("-sign-out is for the flows of a person")
		}
		return person.SignOut(ctx)
	case o.check:
		return check(ctx, where, p, o, out)
	default:
		return inspect(ctx, p, apiOrigin(o), out)
	}
}

// apiOrigin returns the origin of CDF's API.
func apiOrigin(o options) string {
	if o.api != "" {
		return strings.TrimRight(o.api, "/")
	}
	return cdfauth.ClusterURL(o.cluster)
}

// provider makes the provider that the flags ask for, and says where its identity
// provider is.
func provider(o options, getenv func(string) string, opts cdfauth.Options) (cdfauth.Provider, target, error) {
	switch {
	case o.config != "":
		config, err := os.ReadFile(o.config)
		if err != nil {
			return nil, target{}, err
		}
		p, err := cdfauth.Load(config, opts)
		return p, configTarget(config), err
	case o.flow == "env":
		p, err := cdfauth.FromEnv(getenv, opts)
		return p, envTarget(getenv), err
	case o.flow == "token":
		p, err := cdfauth.NewStaticProvider(getenv("CDF_TOKEN"))
		return p, target{}, err
	default:
		p, err := flowProvider(o, getenv, opts)
		return p, endpointTarget(o), err
	}
}

// flowProvider makes the provider of a flow whose fields the flags fill.
func flowProvider(o options, getenv func(string) string, opts cdfauth.Options) (cdfauth.Provider, error) {
	endpoint, scopes := endpointAndScopes(o)
	params := url.Values{}
	if o.audience != "" {
		params.Set("audience", o.audience)
	}
	switch o.flow {
	case "interactive":
		return cdfauth.NewInteractive(cdfauth.InteractiveConfig{
			Endpoint:  endpoint,
			ClientID:  o.clientID,
			Scopes:    scopes,
			Params:    params,
			LoginHint: o.loginHint,
			Options:   opts,
		})
	case "device_code":
		return cdfauth.NewDeviceCode(cdfauth.DeviceCodeConfig{
			Endpoint:  endpoint,
			ClientID:  o.clientID,
			Scopes:    scopes,
			Params:    params,
			LoginHint: o.loginHint,
			Options:   opts,
		})
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

func endpointAndScopes(o options) (cdfauth.Endpoint, []string) {
	var endpoint cdfauth.Endpoint
	var scopes []string
	switch {
	case o.tenant != "":
		endpoint = cdfauth.Entra(o.tenant)
		scopes = cdfauth.ClusterScopes(o.cluster)
	case o.authority != "":
		endpoint = cdfauth.Authority(o.authority)
		scopes = cdfauth.ClusterScopes(o.cluster)
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
	return endpoint, scopes
}
