package cdfauth

import (
	"bytes"
	"cmp"
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

// Load builds a provider from JSON of the shape that CredentialProvider.load of Cognite's Python SDK takes: an object of one key, the kind, with an object of:
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
// IDP_SCOPES, separated by commas, and IDP_AUDIENCE have defaults, but for cdf: for auth0 IDENTITY and user_impersonation, and the project's address, by CDF_PROJECT;
// else, by CDF_CLUSTER, [ClusterScopes] (device codes: the cluster's IDENTITY and user_impersonation) and [ClusterURL]; interactive has no default audience.
func FromEnv(getenv func(string) string, o Options) (Provider, error) {
	if getenv == nil {
		getenv = os.Getenv
	}
	s, flow := translate(getenv)
	return s.provider(flow, o)
}

func translate(getenv func(string) string) (s *settings, flow string) { // makes a configuration, in Load's terms, of the environment
	s = &settings{prefix: "cdfauth: FromEnv: ", values: map[string]any{}, names: map[string]string{"token": "CDF_TOKEN", "client_id": "IDP_CLIENT_ID",
		"client_secret": "IDP_CLIENT_SECRET", "token_url": "IDP_TOKEN_URL", "authority_url": "IDP_AUTHORITY_URL", "oauth_discovery_url": "IDP_DISCOVERY_URL",
		"scopes": "IDP_SCOPES", "audience": "IDP_AUDIENCE"}}
	oneOf := func(name string, valid ...string) string {
		v := strings.ToLower(cmp.Or(getenv(name), valid[0]))
		s.complain(!slices.Contains(valid, v), "%s is %.64q: want one of %s", name, v, strings.Join(valid, ", "))
		return v
	}
	flow = oneOf("LOGIN_FLOW", "client_credentials", "device_code", "interactive", "token")
	idp := oneOf("PROVIDER", "entra_id", "auth0", "cdf", "other")
	env := map[string]string{} // by key
	for key, name := range s.names {
		env[key] = getenv(name)
	}
	cluster, project, tenant := getenv("CDF_CLUSTER"), getenv("CDF_PROJECT"), getenv("IDP_TENANT_ID")
	noScopes, noAudience := env["scopes"] == "", env["audience"] == "" && flow != "interactive"
	audience, scopes := ClusterURL(cluster), ClusterScopes(cluster)[0]
	switch {
	case flow == "token" || idp == "cdf" || !noScopes && !noAudience:
		audience, scopes = "", ""
	case idp == "auth0":
		audience, scopes = "https://"+project+".fusion.cognite.com/"+project, "IDENTITY user_impersonation"
		s.complain(noAudience && project == "", "CDF_PROJECT is missing")
	case cluster == "":
		s.complain(true, "CDF_CLUSTER is missing")
	case audience == badCluster:
		s.complain(true, "CDF_CLUSTER is %.64q: want the name of a cluster, such as greenfield or westeurope-1", cluster)
	case flow == "device_code":
		scopes = audience + "/IDENTITY " + audience + "/user_impersonation"
	}
	env["scopes"] = cmp.Or(strings.ReplaceAll(env["scopes"], ",", " "), scopes)
	if noAudience {
		env["audience"] = audience
	}
	switch path := "/oauth2/v2.0/token"; idp {
	case "cdf":
		env["token_url"] = "https://auth.cognite.com/oauth2/token"
	case "entra_id":
		authority, ok := strings.CutSuffix(env["token_url"], path)
		if e := Entra(tenant); tenant != "" {
			s.complain(e.err != nil, "IDP_TENANT_ID is %.64q: want a tenant's GUID or domain name", tenant)
			authority, ok = cmp.Or(e.url, "https://login.microsoftonline.com"), true
		}
		if ok {
			env["token_url"], env["authority_url"] = cmp.Or(env["token_url"], authority+path), cmp.Or(env["authority_url"], authority)
		}
		if flow == "device_code" {
			env["client_id"] = cmp.Or(env["client_id"], "fb9d503b-ac25-44c7-a75d-8fbcd3a206bd")
		}
		s.names["token_url"], s.names["authority_url"] = "IDP_TENANT_ID (or IDP_TOKEN_URL)", "IDP_TENANT_ID (or IDP_AUTHORITY_URL)"
	}
	if env["authority_url"] != "" && env["oauth_discovery_url"] != "" { // one environment may be for several flows
		delete(env, map[bool]string{true: "authority_url", false: "oauth_discovery_url"}[flow == "device_code" && idp != "entra_id"])
	}
	for key, value := range env {
		if value != "" && slices.Contains(strings.Fields(kinds[flow].required+" "+kinds[flow].optional), key) { // the flow has a use for it
			s.values[key] = value
		}
	}
	return s, flow
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
func (s *settings) text(key string) string { return s.str(s.name(key), s.values[key]) }

func (s *settings) str(name string, v any) string {
	if n, ok := v.(json.Number); ok {
		return n.String()
	}
	text, ok := v.(string)
	s.complain(!ok && v != nil, "%s is %s: want a string", name, jsonType(v))
	return text
}

func (s *settings) flag(key string) bool {
	v, ok := s.values[key].(bool)
	s.complain(!ok && s.values[key] != nil, "%s is %s: want true or false", key, jsonType(s.values[key]))
	return v
}

func jsonType(v any) string { // names the type of a value, never the value
	return map[string]string{"string": "a string", "json.Number": "a number", "bool": "a boolean", "[]interface {}": "a list", "<nil>": "null",
		"map[string]interface {}": "an object"}[fmt.Sprintf("%T", v)]
}

func (s *settings) provider(kind string, o Options) (p Provider, err error) {
	c, token, secret, certificate, thumbprint := s.config(kind, o), s.text("token"), s.text("client_secret"), s.text("certificate"), s.text("cert_thumbprint")
	if len(s.wrong) == 0 {
		switch kind {
		case "token":
			p, err = NewStaticProvider(token)
		case "client_credentials":
			p, err = NewClientCredentials(ClientCredentialsConfig{Endpoint: c.Endpoint, ClientID: c.ClientID, ClientSecret: SecretString(secret), Scopes: c.Scopes,
				Params: c.Params, Options: c.Options})
		case "client_certificate":
			p, err = NewClientCertificate(ClientCertificateConfig{Endpoint: c.Endpoint, ClientID: c.ClientID, Certificate: SecretString(certificate),
				Thumbprint: thumbprint, Scopes: c.Scopes, Options: c.Options})
		case "device_code":
			p, err = NewDeviceCode(DeviceCodeConfig{Endpoint: c.Endpoint, ClientID: c.ClientID, Scopes: c.Scopes, Params: c.Params, LoginHint: c.LoginHint, Options: c.Options})
		case "interactive":
			p, err = NewInteractive(c)
		}
	}
	if err != nil { // it has the constructor's names for things
		s.complain(true, "%s", strings.NewReplacer("cdfauth: ", "", "Endpoint: TokenURL", s.name("token_url"), "Endpoint: Authority", s.name("authority_url"),
			"Endpoint: Discovery", s.name("oauth_discovery_url"), "access token", s.name("token"), "ClientID", s.name("client_id"), "Scopes", s.name("scopes"),
			"Certificate", "certificate", "Thumbprint", "cert_thumbprint", "RedirectPort", "redirect_port", "Prompt", "prompt", "Params: ", "").Replace(err.Error()))
	}
	if len(s.wrong) > 0 {
		return nil, errors.New(s.prefix + strings.Join(s.wrong, "; "))
	}
	return p, nil
}

func (s *settings) config(kind string, o Options) (c InteractiveConfig) { // has the fields of the other flows' too
	required, optional := strings.Fields(kinds[kind].required), strings.Fields(kinds[kind].optional)
	for _, key := range required {
		s.complain(s.values[key] == nil || s.values[key] == "", "%s is missing", s.name(key))
	}
	c.Params = url.Values{}
	for _, key := range slices.Sorted(maps.Keys(s.values)) {
		switch known := slices.Contains(append(optional, required...), key); {
		case !known && !slices.Contains(optional, "*"):
			s.complain(true, "%.64q is no key of it: want %s", key, strings.Join(slices.Sorted(slices.Values(append(optional, required...))), ", "))
		case !known || key == "audience":
			c.Params.Set(key, s.text(key))
		}
	}
	c.ClientID, c.Prompt, c.LoginHint, c.Options = s.text("client_id"), s.text("prompt"), s.text("login_hint"), o
	if list, ok := s.values["scopes"].([]any); ok {
		for i, v := range list {
			c.Scopes = append(c.Scopes, s.str(fmt.Sprintf("scopes[%d]", i), v))
		}
	} else {
		c.Scopes = strings.Fields(s.text("scopes")) // as the Python SDK takes them too
	}
	authority, discovery, cluster, path := s.text("authority_url"), s.text("oauth_discovery_url"), s.text("cdf_cluster"), s.text("token_cache_path")
	switch c.Endpoint = Authority(authority); {
	case kind == "client_credentials":
		c.Endpoint = TokenURL(s.text("token_url"))
	case discovery != "":
		c.Endpoint = Discovery(discovery)
		s.complain(authority != "", "%s and %s are both set: want one of them", s.name("authority_url"), s.name("oauth_discovery_url"))
	case authority == "" && slices.Contains(optional, "authority_url"):
		s.complain(true, "%s is missing, and so is %s", s.name("authority_url"), s.name("oauth_discovery_url"))
	}
	if cluster != "" && len(c.Scopes) == 0 {
		c.Scopes = []string{ClusterURL(cluster) + "/IDENTITY", ClusterURL(cluster) + "/user_impersonation"}
	}
	var bad error
	c.RedirectPort, bad = strconv.Atoi(cmp.Or(s.text("redirect_port"), "0"))
	s.complain(bad != nil, "redirect_port is not a number")
	if key := "token_expiry_leeway_seconds"; s.values[key] != nil {
		leeway, ok := seconds(json.RawMessage(s.text(key)), 0)
		s.complain(!ok || leeway < 0, "%s is not a number of seconds", key)
		c.Leeway = max(leeway, 1) // 0 is none at all here, not the default
	}
	fresh := s.flag("clear_cache")
	switch {
	case s.flag("mem_cache_only"):
		c.Cache = new(MemoryCache)
	case path != "":
		c.Cache, bad = NewFileCache(path)
		s.complain(bad != nil, "token_cache_path: %v", bad)
	case fresh && o.Cache == nil:
		path, _ = DefaultCachePath(c.ClientID)
		if file, err := NewFileCache(path); err == nil { // or there is nothing to clear
			c.Cache = file
		}
	}
	if begun := new(atomic.Bool); fresh && c.Cache != nil { // and until something is stored, what is there counts for nothing
		c.Cache = &codedCache{c.Cache, func(stored []byte) ([]byte, error) {
			if !begun.Load() {
				return nil, nil
			}
			return stored, nil
		}, func(now []byte) []byte { begun.Store(true); return now }}
	}
	return c
}
