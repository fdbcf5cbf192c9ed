package cdfauth

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// This file builds providers from what Cognite's users already have: the configuration of the Python SDK, and the environment of the Cognite toolkit, which is
// translated into it. All that is wrong is told at once, by the names that its author knows, and without a value that could be a secret.

const userKeys = "authority_url oauth_discovery_url scopes cdf_cluster login_hint audience token_cache_path mem_cache_only clear_cache token_expiry_leeway_seconds"

var kinds = map[string]struct{ required, optional string }{ // of credentials, with their keys. By "*" all others are parameters of the requests.
	"token":              {"token", ""},
	"client_credentials": {"token_url client_id client_secret", "scopes audience token_expiry_leeway_seconds *"},
	"client_certificate": {"authority_url client_id certificate", "cert_thumbprint scopes token_expiry_leeway_seconds"},
	"device_code":        {"client_id", userKeys + " *"},
	"interactive":        {"client_id", userKeys + " redirect_port prompt"},
}

// Load builds a provider from a configuration in JSON, of the shape that CredentialProvider.load of Cognite's Python SDK takes: an object of one key, the kind,
// whose value has the keys of that kind:
//
//	token               the token itself, or an object with token
//	client_credentials  token_url, client_id, client_secret; scopes; all others are parameters of the requests, such as audience
//	client_certificate  authority_url, client_id, certificate (PEM text); cert_thumbprint, scopes
//	interactive         client_id, authority_url or oauth_discovery_url (for [Discovery]); scopes or cdf_cluster, audience, redirect_port, prompt, login_hint,
//	                    token_cache_path, mem_cache_only, clear_cache (what the cache has counts for nothing, and is removed by the first sign-in)
//	device_code         the same without redirect_port and prompt; all others are parameters of the requests
//
// and, but for token, token_expiry_leeway_seconds. A key that is not listed is refused. o fills in what the configuration does not say.
func Load(config []byte, o Options) (Provider, error) {
	var top map[string]any
	d := json.NewDecoder(bytes.NewReader(config))
	d.UseNumber() // parameters are sent as they are written
	err := d.Decode(&top)
	valid := strings.Join(slices.Sorted(maps.Keys(kinds)), ", ")
	if err != nil || len(top) != 1 || len(bytes.TrimSpace(config[d.InputOffset():])) > 0 {
		return nil, fmt.Errorf("cdfauth: Load: want one JSON object (not YAML) with one key, the kind: %s", valid)
	}
	kind := slices.Collect(maps.Keys(top))[0]
	values, ok := top[kind].(map[string]any)
	if token, bare := top[kind].(string); bare && kind == "token" {
		values, ok = map[string]any{"token": token}, true
	}
	if kinds[kind].required == "" {
		return nil, fmt.Errorf("cdfauth: Load: %.64q is no kind of credentials: want one of %s", kind, valid)
	} else if !ok {
		return nil, fmt.Errorf("cdfauth: Load: %s is %s: want an object of its keys", kind, jsonType(top[kind]))
	}
	return (&settings{prefix: "cdfauth: Load: " + kind + ": ", values: values}).provider(kind, o)
}

// FromEnv builds a provider from the environment variables of the Cognite toolkit, with its defaults. A nil getenv is os.Getenv; o fills in what they do not say.
// LOGIN_FLOW is client_credentials (the default), device_code, interactive or token; PROVIDER is entra_id (the default), auth0, cdf or other. Wanted are for
//
//	token               CDF_TOKEN
//	client_credentials  IDP_CLIENT_ID, IDP_CLIENT_SECRET, IDP_TOKEN_URL (entra_id: or IDP_TENANT_ID; cdf: built in)
//	interactive         IDP_CLIENT_ID, IDP_AUTHORITY_URL (entra_id: or IDP_TENANT_ID or IDP_TOKEN_URL) or IDP_DISCOVERY_URL
//	device_code         the same; of both URLs the latter counts, but for entra_id, where also IDP_CLIENT_ID has a default: Cognite's app registration
//
// IDP_SCOPES, separated by commas, and IDP_AUDIENCE have defaults too: for cdf none; for auth0 IDENTITY and user_impersonation, and the project's address, by
// CDF_PROJECT; otherwise [ClusterScopes], or with device codes the cluster's IDENTITY and user_impersonation, and [ClusterURL], by CDF_CLUSTER. An interactive
// sign-in has no default audience.
func FromEnv(getenv func(string) string, o Options) (Provider, error) {
	if getenv == nil {
		getenv = os.Getenv
	}
	s := &settings{prefix: "cdfauth: FromEnv: ", values: map[string]any{}, names: map[string]string{"token": "CDF_TOKEN", "client_id": "IDP_CLIENT_ID",
		"client_secret": "IDP_CLIENT_SECRET", "token_url": "IDP_TOKEN_URL", "authority_url": "IDP_AUTHORITY_URL", "oauth_discovery_url": "IDP_DISCOVERY_URL",
		"scopes": "IDP_SCOPES", "audience": "IDP_AUDIENCE", "cdf_cluster": "CDF_CLUSTER"}}
	oneOf := func(name string, valid ...string) string {
		v := strings.ToLower(cmp.Or(getenv(name), valid[0]))
		s.complain(!slices.Contains(valid, v), "%s is %.64q: want one of %s", name, v, strings.Join(valid, ", "))
		return v
	}
	flow, idp := oneOf("LOGIN_FLOW", "client_credentials", "device_code", "interactive", "token"), oneOf("PROVIDER", "entra_id", "auth0", "cdf", "other")
	fill := func(key, value string) { // what there is already counts, and what the flow has no use for does not
		if value != "" && s.values[key] == nil && slices.Contains(strings.Fields(kinds[flow].required+" "+kinds[flow].optional), key) {
			s.values[key] = value
		}
	}
	cluster, project, tenant := getenv("CDF_CLUSTER"), getenv("CDF_PROJECT"), getenv("IDP_TENANT_ID")
	fill("scopes", strings.ReplaceAll(getenv("IDP_SCOPES"), ",", " "))
	for key, name := range s.names {
		if key != "cdf_cluster" && (key != "token_url" || idp != "cdf") {
			fill(key, getenv(name))
		}
	}
	noScopes, noAudience := s.values["scopes"] == nil, s.values["audience"] == nil && flow != "interactive"
	switch {
	case flow == "token":
	case idp == "cdf":
		fill("token_url", "https://auth.cognite.com/oauth2/token")
	case idp == "auth0":
		fill("scopes", "IDENTITY user_impersonation")
		if s.complain(noAudience && project == "", "CDF_PROJECT is missing"); noAudience {
			fill("audience", "https://"+project+".fusion.cognite.com/"+project)
		}
	case noScopes || noAudience:
		s.complain(cluster == "", "CDF_CLUSTER is missing")
		s.complain(cluster != "" && ClusterURL(cluster) == badCluster, "CDF_CLUSTER is %.64q: want the name of a cluster, such as greenfield or westeurope-1", cluster)
		if noAudience {
			fill("audience", ClusterURL(cluster))
		}
		if fill("scopes", ClusterScopes(cluster)[0]); noScopes && flow == "device_code" {
			delete(s.values, "scopes")
			fill("cdf_cluster", cluster)
		}
	}
	if path := "/oauth2/v2.0/token"; idp == "entra_id" {
		own, ok := strings.CutSuffix(getenv("IDP_TOKEN_URL"), path)
		if e := Entra(tenant); tenant != "" {
			s.complain(e.err != nil, "IDP_TENANT_ID is %.64q: want a tenant's GUID or domain name", tenant)
			own, ok = e.url, true
		}
		if ok {
			fill("token_url", own+path)
			fill("authority_url", own)
		}
		fill("client_id", map[bool]string{true: "fb9d503b-ac25-44c7-a75d-8fbcd3a206bd"}[flow == "device_code"])
		s.names["token_url"], s.names["authority_url"] = "IDP_TENANT_ID (or IDP_TOKEN_URL)", "IDP_TENANT_ID (or IDP_AUTHORITY_URL)"
	}
	if s.values["authority_url"] != nil && s.values["oauth_discovery_url"] != nil { // one environment may be for several flows
		delete(s.values, map[bool]string{true: "authority_url", false: "oauth_discovery_url"}[flow == "device_code" && idp != "entra_id"])
	}
	return s.provider(flow, o)
}

type settings struct { // a configuration while it is read
	prefix string // of errors
	values map[string]any
	names  map[string]string // by key, if not the same
	wrong  []string
}

func (s *settings) complain(is bool, format string, args ...any) {
	if is {
		s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
	}
}

func (s *settings) name(key string) string { return cmp.Or(s.names[key], key) }

func (s *settings) text(key string) string {
	switch v := s.values[key].(type) {
	case nil:
	case string:
		return v
	case json.Number:
		return v.String()
	default:
		s.complain(true, "%s is %s: want a string", s.name(key), jsonType(v))
	}
	return ""
}

func (s *settings) flag(key string) bool {
	v, ok := s.values[key].(bool)
	s.complain(!ok && s.values[key] != nil, "%s is %s: want true or false", s.name(key), jsonType(s.values[key]))
	return v
}

func (s *settings) list(key string) (list []string) { // of strings; or one string, in which blanks separate them
	elements, ok := s.values[key].([]any)
	if !ok {
		return strings.Fields(s.text(key))
	}
	for i, e := range elements {
		v, ok := e.(string)
		s.complain(!ok, "%s[%d] is %s: want a string", s.name(key), i, jsonType(e))
		list = append(list, v)
	}
	return list
}

func jsonType(v any) string { // names the type of a value, never the value
	return map[string]string{"string": "a string", "json.Number": "a number", "bool": "a boolean", "[]interface {}": "a list", "<nil>": "null"}[fmt.Sprintf("%T", v)]
}

func (s *settings) provider(kind string, o Options) (p Provider, err error) {
	keys := strings.Fields(kinds[kind].required + " " + kinds[kind].optional)
	for _, key := range strings.Fields(kinds[kind].required) {
		s.complain(s.values[key] == nil || s.values[key] == "", "%s is missing", s.name(key))
	}
	params := url.Values{}
	for _, key := range slices.Sorted(maps.Keys(s.values)) {
		if known := slices.Contains(keys, key); !known && !slices.Contains(keys, "*") {
			s.complain(true, "%.64q is no key of it: want %s", key, strings.Join(slices.Sorted(slices.Values(keys)), ", "))
		} else if !known || key == "audience" {
			params.Set(key, s.text(key))
		}
	}
	authority, discovery, cluster, id := s.text("authority_url"), s.text("oauth_discovery_url"), s.text("cdf_cluster"), s.text("client_id")
	endpoint, scopes, user := Authority(authority), s.list("scopes"), slices.Contains(keys, "cdf_cluster")
	if kind == "client_credentials" {
		endpoint = TokenURL(s.text("token_url"))
	} else if discovery != "" {
		endpoint = Discovery(discovery)
	}
	s.complain(user && authority == "" && discovery == "", "%s is missing, and so is %s", s.name("authority_url"), s.name("oauth_discovery_url"))
	s.complain(authority != "" && discovery != "", "%s and %s are both set: want one of them", s.name("authority_url"), s.name("oauth_discovery_url"))
	if cluster != "" && len(scopes) == 0 {
		scopes = []string{ClusterURL(cluster) + "/IDENTITY", ClusterURL(cluster) + "/user_impersonation"}
	}
	leeway, ok := seconds(json.RawMessage(s.text("token_expiry_leeway_seconds")), 0)
	s.complain(!ok || leeway < 0, "token_expiry_leeway_seconds is not a number of seconds")
	if s.values["token_expiry_leeway_seconds"] != nil {
		o.Leeway = max(leeway, 1) // 0 is none at all here, and not the default
	}
	port, bad := strconv.Atoi(cmp.Or(s.text("redirect_port"), "0"))
	s.complain(bad != nil, "redirect_port is not a number")
	if path := s.text("token_cache_path"); path != "" {
		o.Cache, err = NewFileCache(path)
	}
	if s.flag("mem_cache_only") {
		o.Cache, err = new(MemoryCache), nil
	}
	if s.flag("clear_cache") {
		if path, none := DefaultCachePath(id); o.Cache == nil && none == nil {
			o.Cache, err = NewFileCache(path)
		}
		if o.Cache != nil {
			o.Cache = &clearedCache{Cache: o.Cache}
		}
	}
	if token := s.text("token"); len(s.wrong) == 0 && err == nil {
		switch kind {
		case "token":
			p, err = NewStaticProvider(token)
		case "client_credentials":
			p, err = NewClientCredentials(ClientCredentialsConfig{Endpoint: endpoint, ClientID: id, ClientSecret: SecretString(s.text("client_secret")), Scopes: scopes, Params: params, Options: o})
		case "client_certificate":
			p, err = NewClientCertificate(ClientCertificateConfig{Endpoint: endpoint, ClientID: id, Certificate: SecretString(s.text("certificate")),
				Thumbprint: s.text("cert_thumbprint"), Scopes: scopes, Options: o})
		case "device_code":
			p, err = NewDeviceCode(DeviceCodeConfig{Endpoint: endpoint, ClientID: id, Scopes: scopes, Params: params, LoginHint: s.text("login_hint"), Options: o})
		case "interactive":
			p, err = NewInteractive(InteractiveConfig{Endpoint: endpoint, ClientID: id, Scopes: scopes, Params: params, RedirectPort: port, Prompt: s.text("prompt"),
				LoginHint: s.text("login_hint"), Options: o})
		}
	}
	if err != nil { // in the words of a constructor, which has its own names
		what := strings.TrimPrefix(err.Error(), "cdfauth: ")
		s.wrong = append(s.wrong, strings.NewReplacer("access token", s.name("token"), "Endpoint: TokenURL", s.name("token_url"), "Endpoint: Authority", s.name("authority_url"),
			"Endpoint: Discovery", s.name("oauth_discovery_url"), "ClientID", s.name("client_id"), "Scopes", s.name("scopes"), "Certificate", "certificate",
			"Thumbprint", "cert_thumbprint", "RedirectPort", "redirect_port", "Prompt", "prompt", "Params: ", "").Replace(what))
	}
	if len(s.wrong) > 0 {
		return nil, errors.New(s.prefix + strings.Join(s.wrong, "; "))
	}
	return p, nil
}

type clearedCache struct { // counts as empty until something is stored in it: clear_cache, without a moment at which another program's sign-in is lost for nothing
	Cache
	begun atomic.Bool
}

func (c *clearedCache) Get(ctx context.Context) ([]byte, error) {
	if !c.begun.Load() {
		return nil, ctx.Err()
	}
	return c.Cache.Get(ctx)
}

func (c *clearedCache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	return c.Cache.Update(ctx, func(ctx context.Context, old []byte) (now []byte, err error) {
		if !c.begun.Load() {
			old = nil
		}
		if now, err = f(ctx, old); err == nil {
			c.begun.Store(true)
		}
		return now, err
	})
}
