//go:build go1.24

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
	return (&loader{prefix: "cdfauth: Load: " + kind + ": ", values: values}).provider(kind, o)
}

type loader struct { // a configuration while it is read
	prefix string // of errors
	values map[string]any
	names  map[string]string // by key, if not the same
	wrong  []string
}

func (s *loader) problem(is bool, format string, args ...any) {
	if is {
		s.wrong = append(s.wrong, fmt.Sprintf(format, args...))
	}
}

func (s *loader) name(key string) string { return cmp.Or(s.names[key], key) }

func (s *loader) text(key string) string { return s.str(s.name(key), s.values[key]) }

func (s *loader) str(name string, v any) string {
	if n, ok := v.(json.Number); ok {
		return n.String()
	}
	text, ok := v.(string)
	s.problem(!ok && v != nil, "%s is %s: want a string", name, jsonType(v))
	return text
}

func (s *loader) flag(key string) bool {
	v, ok := s.values[key].(bool)
	s.problem(!ok && s.values[key] != nil, "%s is %s: want true or false", key, jsonType(s.values[key]))
	return v
}

func jsonType(v any) string { // names the type of a value, never the value
	return map[string]string{"string": "a string", "json.Number": "a number", "bool": "a boolean", "[]interface {}": "a list", "<nil>": "null",
		"map[string]interface {}": "an object"}[fmt.Sprintf("%T", v)]
}

func (s *loader) provider(kind string, o Options) (p Provider, err error) {
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
		s.problem(true, "%s", strings.NewReplacer("cdfauth: ", "", "Endpoint", s.name(endpointKey(c.Endpoint.kind)),
			"access token", s.name("token"), "ClientID", s.name("client_id"), "Scopes", s.name("scopes"),
			"Certificate", "certificate", "Thumbprint", "cert_thumbprint", "RedirectPort", "redirect_port", "Prompt", "prompt", "Params: ", "").Replace(err.Error()))
	}
	if len(s.wrong) > 0 {
		return nil, errors.New(s.prefix + strings.Join(s.wrong, "; "))
	}
	return p, nil
}

func (s *loader) config(kind string, o Options) (c InteractiveConfig) { // has the fields of the other flows' too
	required, optional := strings.Fields(kinds[kind].required), strings.Fields(kinds[kind].optional)
	for _, key := range required {
		s.problem(s.values[key] == nil || s.values[key] == "", "%s is missing", s.name(key))
	}
	c.Params = url.Values{}
	for _, key := range slices.Sorted(maps.Keys(s.values)) {
		switch known := slices.Contains(append(optional, required...), key); {
		case !known && !slices.Contains(optional, "*"):
			s.problem(true, "%.64q is no key of it: want %s", key, strings.Join(slices.Sorted(slices.Values(append(optional, required...))), ", "))
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
		s.problem(authority != "", "%s and %s are both set: want one of them", s.name("authority_url"), s.name("oauth_discovery_url"))
	case authority == "" && slices.Contains(optional, "authority_url"):
		s.problem(true, "%s is missing, and so is %s", s.name("authority_url"), s.name("oauth_discovery_url"))
	}
	if cluster != "" && len(c.Scopes) == 0 {
		c.Scopes = []string{ClusterURL(cluster) + "/IDENTITY", ClusterURL(cluster) + "/user_impersonation"}
	}
	var bad error
	c.RedirectPort, bad = strconv.Atoi(cmp.Or(s.text("redirect_port"), "0"))
	s.problem(bad != nil, "redirect_port is not a number")
	if key := "token_expiry_leeway_seconds"; s.values[key] != nil {
		leeway, ok := seconds(json.RawMessage(s.text(key)), 0)
		s.problem(!ok || leeway < 0, "%s is not a number of seconds", key)
		c.Leeway = max(leeway, 1) // 0 is none at all here, not the default
	}
	fresh := s.flag("clear_cache")
	switch {
	case s.flag("mem_cache_only"):
		c.Cache = new(MemoryCache)
	case path != "":
		c.Cache, bad = NewFileCache(path)
		s.problem(bad != nil, "token_cache_path: %v", bad)
	case fresh && o.Cache == nil:
		path, _ = DefaultCachePath(c.ClientID)
		if file, err := NewFileCache(path); err == nil { // or there is nothing to clear
			c.Cache = file
		}
	}
	if fresh && c.Cache != nil {
		c.Cache = &clearedCache{cache: c.Cache}
	}
	return c
}

// clearedCache is a Cache with clear_cache: what it has counts for nothing, until
// something is stored through it, which replaces what was there. Other processes
// may have stored something since, and then that counts as ever.
type clearedCache struct {
	cache Cache

	// stored is set once something was stored.
	stored atomic.Bool
}

// Get returns the content, if it counts.
func (c *clearedCache) Get(ctx context.Context) ([]byte, error) {
	content, err := c.cache.Get(ctx)
	if err != nil || !c.stored.Load() {
		return nil, err
	}
	return content, nil
}

// Update implements [Cache].
func (c *clearedCache) Update(
	ctx context.Context,
	f func(ctx context.Context, old []byte) (new []byte, err error),
) error {
	if err := checkCacheCall(ctx, f != nil); err != nil {
		return err
	}
	return c.cache.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
		if !c.stored.Load() {
			old = nil
		}
		content, err := f(ctx, old)
		if err == nil && len(content) > 0 {
			c.stored.Store(true)
		}
		return content, err
	})
}

// endpointKey returns the key that an Endpoint was made of.
func endpointKey(kind string) string {
	switch kind {
	case kindTokenURL:
		return "token_url"
	case kindDiscovery:
		return "oauth_discovery_url"
	default:
		return "authority_url"
	}
}
