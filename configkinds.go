//go:build go1.24

package cdfauth

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// This file has the kinds of credentials that a configuration of Cognite's Python SDK
// can be of. Each is a struct. Its fields are the keys that the kind has, check says what
// is wrong with their values, and provider calls the constructor. FromEnv fills the same
// structs.

// A kindConfig has the values of one kind of credentials.
type kindConfig interface {
	// check notes what is wrong with the values, so that one error has all of it. It
	// leaves to the constructor what the constructor's error says as well.
	check(wrong *problems)

	// provider returns the provider, if check has found nothing wrong. It takes from o
	// what the values do not say.
	provider(o Options) (Provider, error)
}

// kindNames are the kinds, for errors.
const kindNames = "client_certificate, client_credentials, device_code, interactive, token"

// newCredentials returns the struct of a kind, without values. It returns nil if there is
// no such kind.
func newCredentials(kind string) kindConfig {
	switch kind {
	case "token":
		return new(staticToken)
	case "client_credentials":
		return new(secretCredentials)
	case "client_certificate":
		return new(certificateCredentials)
	case "device_code":
		return new(deviceCredentials)
	case "interactive":
		return new(browserCredentials)
	}
	return nil
}

// staticToken is the kind token, for [NewStaticProvider].
type staticToken struct {
	Token configText `json:"token"`
}

// check implements kindConfig. It does not show the token, not even a bad one.
func (c *staticToken) check(wrong *problems) {
	wrong.require("token", c.Token)
	if problem := checkAccessToken(string(c.Token)); problem != "" {
		wrong.add("token", "%s", strings.TrimPrefix(problem, "access token "))
	}
}

// provider implements kindConfig. It needs no Options, because it sends no request.
func (c *staticToken) provider(Options) (Provider, error) {
	return NewStaticProvider(string(c.Token))
}

// secretCredentials are the kind client_credentials, for [NewClientCredentials].
type secretCredentials struct {
	TokenURL     configText    `json:"token_url"`
	ClientID     configText    `json:"client_id"`
	ClientSecret configText    `json:"client_secret"`
	Scopes       configScopes  `json:"scopes"`
	Leeway       configSeconds `json:"token_expiry_leeway_seconds"`

	// Params are all other keys, as parameters of the requests.
	Params url.Values `json:"*"`
}

// check implements kindConfig.
func (c *secretCredentials) check(wrong *problems) {
	wrong.require("token_url", c.TokenURL)
	wrong.require("client_id", c.ClientID)
	wrong.require("client_secret", c.ClientSecret)
	wrong.addError("token_url", TokenURL(string(c.TokenURL)).check(c.Params))
}

// provider implements kindConfig.
func (c *secretCredentials) provider(o Options) (Provider, error) {
	o.Leeway = c.Leeway.orElse(o.Leeway)
	return NewClientCredentials(ClientCredentialsConfig{
		Endpoint:     TokenURL(string(c.TokenURL)),
		ClientID:     string(c.ClientID),
		ClientSecret: SecretString(string(c.ClientSecret)),
		Scopes:       c.Scopes,
		Params:       c.Params,
		Options:      o,
	})
}

// certificateCredentials are the kind client_certificate, for [NewClientCertificate].
type certificateCredentials struct {
	AuthorityURL configText    `json:"authority_url"`
	ClientID     configText    `json:"client_id"`
	Certificate  configText    `json:"certificate"`
	Thumbprint   configText    `json:"cert_thumbprint"`
	Scopes       configScopes  `json:"scopes"`
	Leeway       configSeconds `json:"token_expiry_leeway_seconds"`
}

// check implements kindConfig. It does not parse the certificate, and neither does the
// constructor: the first Token says what is wrong with that.
func (c *certificateCredentials) check(wrong *problems) {
	wrong.require("authority_url", c.AuthorityURL)
	wrong.require("client_id", c.ClientID)
	wrong.require("certificate", c.Certificate)
	wrong.addError("authority_url", Authority(string(c.AuthorityURL)).check(nil))
}

// provider implements kindConfig.
func (c *certificateCredentials) provider(o Options) (Provider, error) {
	o.Leeway = c.Leeway.orElse(o.Leeway)
	return NewClientCertificate(ClientCertificateConfig{
		Endpoint:    Authority(string(c.AuthorityURL)),
		ClientID:    string(c.ClientID),
		Certificate: SecretString(string(c.Certificate)),
		Thumbprint:  string(c.Thumbprint),
		Scopes:      c.Scopes,
		Options:     o,
	})
}

// personKeys are the keys that the kinds device_code and interactive have in common. Either
// AuthorityURL or DiscoveryURL says where the identity provider is. If Scopes is empty,
// Cluster stands for its scopes. If MemoryOnly is set, CachePath does not count.
type personKeys struct {
	AuthorityURL configText    `json:"authority_url"`
	DiscoveryURL configText    `json:"oauth_discovery_url"`
	ClientID     configText    `json:"client_id"`
	Scopes       configScopes  `json:"scopes"`
	Cluster      configText    `json:"cdf_cluster"`
	LoginHint    configText    `json:"login_hint"`
	CachePath    configText    `json:"token_cache_path"`
	MemoryOnly   configFlag    `json:"mem_cache_only"`
	ClearCache   configFlag    `json:"clear_cache"`
	Leeway       configSeconds `json:"token_expiry_leeway_seconds"`
}

// check notes what is wrong with the keys of credentials that have these parameters.
func (k *personKeys) check(wrong *problems, params url.Values) {
	wrong.require("client_id", k.ClientID)
	switch {
	case k.AuthorityURL == "" && k.DiscoveryURL == "":
		wrong.add("authority_url", "is missing, and so is %s", wrong.name("oauth_discovery_url"))
	case k.AuthorityURL != "" && k.DiscoveryURL != "":
		wrong.add("authority_url", "and %s are both set: want one of them",
			wrong.name("oauth_discovery_url"))
	case k.AuthorityURL != "":
		wrong.addError("authority_url", k.endpoint().check(params))
	default:
		wrong.addError("oauth_discovery_url", k.endpoint().check(params))
	}
	if len(k.Scopes) == 0 && k.Cluster != "" && !isCluster(string(k.Cluster)) {
		wrong.add("cdf_cluster", "is %.64q: %s", string(k.Cluster), wantCluster)
	}
	if k.CachePath != "" && !bool(k.MemoryOnly) {
		_, err := expandHome(string(k.CachePath))
		wrong.addError("token_cache_path", err)
	}
}

// wantCluster says what the name of a cluster is.
const wantCluster = "want the name of a cluster, such as greenfield or westeurope-1"

// endpoint returns where the identity provider is.
func (k *personKeys) endpoint() Endpoint {
	if k.DiscoveryURL != "" {
		return Discovery(string(k.DiscoveryURL))
	}
	return Authority(string(k.AuthorityURL))
}

// scopes returns the scopes to ask for: those that are listed, or those of the cluster.
func (k *personKeys) scopes() []string {
	if len(k.Scopes) > 0 || k.Cluster == "" {
		return k.Scopes
	}
	return personScopes(string(k.Cluster))
}

// personScopes returns the scopes that Cognite's tools ask for in the name of a person.
// Tokens of other scopes, [ClusterScopes] included, have other entries in the cache.
func personScopes(cluster string) []string {
	origin := ClusterURL(cluster)
	return []string{origin + "/IDENTITY", origin + "/user_impersonation"}
}

// options returns o with the leeway and the cache that the keys say. With ClearCache, it
// has to name the cache itself, in order to clear it: the constructor would take the one at
// DefaultCachePath.
func (k *personKeys) options(o Options) (Options, error) {
	o.Leeway = k.Leeway.orElse(o.Leeway)
	switch {
	case bool(k.MemoryOnly):
		o.Cache = new(MemoryCache)
	case k.CachePath != "":
		path, err := expandHome(string(k.CachePath))
		if err != nil {
			return o, err
		}
		cache, err := NewFileCache(path)
		if err != nil {
			return o, err
		}
		o.Cache = cache
	case bool(k.ClearCache) && o.Cache == nil:
		// If there is no such path, the constructor takes a cache in memory, in which
		// there is nothing to clear.
		path, err := DefaultCachePath(string(k.ClientID))
		if err != nil {
			return o, nil
		}
		cache, err := NewFileCache(path)
		if err != nil {
			return o, nil
		}
		o.Cache = cache
	}
	if k.ClearCache {
		o.Cache = &clearedCache{cache: o.Cache}
	}
	return o, nil
}

// expandHome returns path with the user's home directory in place of a ~ at its start, as a
// shell does. It refuses other forms of ~, such as ~ada: nobody means a directory of that
// name.
func expandHome(path string) (string, error) {
	if !strings.HasPrefix(path, "~") {
		return path, nil
	}
	rest := path[1:]
	if rest == "" || !os.IsPathSeparator(rest[0]) {
		return "", badField("token_cache_path",
			"begins with ~, which is the home directory only in ~%c", os.PathSeparator)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", badField("token_cache_path", "begins with ~: %w", err)
	}
	return filepath.Join(home, rest), nil
}

// deviceCredentials are the kind device_code, for [NewDeviceCode].
type deviceCredentials struct {
	personKeys

	// Params are all other keys, as parameters of the requests.
	Params url.Values `json:"*"`
}

// check implements kindConfig. Without a scope, a person would sign in for a token that
// CDF refuses; the Python SDK demands one too.
func (c *deviceCredentials) check(wrong *problems) {
	c.personKeys.check(wrong, c.Params)
	if c.Scopes == nil && c.Cluster == "" {
		wrong.add("scopes", "is missing, and so is %s (an empty list says that none is wanted)",
			wrong.name("cdf_cluster"))
	}
}

// provider implements kindConfig.
func (c *deviceCredentials) provider(o Options) (Provider, error) {
	o, err := c.options(o)
	if err != nil {
		return nil, err
	}
	return NewDeviceCode(DeviceCodeConfig{
		Endpoint:  c.endpoint(),
		ClientID:  string(c.ClientID),
		Scopes:    c.scopes(),
		Params:    c.Params,
		LoginHint: string(c.LoginHint),
		Options:   o,
	})
}

// browserCredentials are the kind interactive, for [NewInteractive].
type browserCredentials struct {
	personKeys
	Audience     configText `json:"audience"`
	RedirectPort configPort `json:"redirect_port"`
	Prompt       configText `json:"prompt"`
}

// check implements kindConfig. The constructor checks the port and the prompt.
func (c *browserCredentials) check(wrong *problems) { c.personKeys.check(wrong, nil) }

// provider implements kindConfig.
func (c *browserCredentials) provider(o Options) (Provider, error) {
	config, err := c.config(o)
	if err != nil {
		return nil, err
	}
	return NewInteractive(config)
}

// config returns the constructor's configuration.
func (c *browserCredentials) config(o Options) (InteractiveConfig, error) {
	o, err := c.options(o)
	if err != nil {
		return InteractiveConfig{}, err
	}
	config := InteractiveConfig{
		Endpoint:     c.endpoint(),
		ClientID:     string(c.ClientID),
		Scopes:       c.scopes(),
		RedirectPort: int(c.RedirectPort),
		Prompt:       string(c.Prompt),
		LoginHint:    string(c.LoginHint),
		Options:      o,
	}
	if c.Audience != "" {
		config.Params = url.Values{"audience": {string(c.Audience)}}
	}
	return config, nil
}

// A configSeconds is a number of seconds, or a string of one. It is 0 if the configuration
// has none.
type configSeconds time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (s *configSeconds) UnmarshalJSON(raw []byte) error {
	life, ok := seconds(raw, -1)
	if !ok || life < 0 {
		return errors.New("is not a number of seconds")
	}
	// In a configuration, 0 means no leeway at all, and in Options the default.
	*s = configSeconds(max(life, 1))
	return nil
}

// orElse returns the leeway, or the other one if the configuration has none.
func (s configSeconds) orElse(other time.Duration) time.Duration {
	if s == 0 {
		return other
	}
	return time.Duration(s)
}

// A configPort is a whole number, or a string of one. The constructor checks its range.
type configPort int

// UnmarshalJSON implements json.Unmarshaler.
func (p *configPort) UnmarshalJSON(raw []byte) error {
	var digits configText
	if err := digits.UnmarshalJSON(raw); err != nil {
		return errors.New("is not a number")
	}
	n, err := strconv.Atoi(string(digits))
	if err != nil {
		return errors.New("is not a number")
	}
	*p = configPort(n)
	return nil
}
