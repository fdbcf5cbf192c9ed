//go:build go1.24

package cdfauth

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// This file reads the environment variables of the Cognite toolkit. LOGIN_FLOW says
// which kind of credentials they are for, and PROVIDER which defaults they have. The
// values go into the structs of configkinds.go, which check them and make the provider.

// FromEnv returns the provider that the environment variables of the Cognite toolkit
// describe, with the toolkit's defaults. A nil getenv means os.Getenv. LOGIN_FLOW is
// client_credentials (the default), device_code, interactive or token. PROVIDER is
// entra_id (the default), auth0, cdf or other. The flows need these variables:
//
//	token               CDF_TOKEN
//	client_credentials  IDP_CLIENT_ID, IDP_CLIENT_SECRET, IDP_TOKEN_URL
//	                    (entra_id: or IDP_TENANT_ID; cdf: built in)
//	interactive         IDP_CLIENT_ID, IDP_AUTHORITY_URL or IDP_DISCOVERY_URL
//	                    (entra_id: or IDP_TENANT_ID, or Entra's IDP_TOKEN_URL)
//	device_code         the same (entra_id: IDP_CLIENT_ID may be missing, and is then
//	                    Cognite's app registration)
//
// If both IDP_AUTHORITY_URL and IDP_DISCOVERY_URL are set, device_code uses the latter,
// unless PROVIDER is entra_id, and interactive the former. If PROVIDER is entra_id, an
// authority that is made of IDP_TENANT_ID or IDP_TOKEN_URL counts as IDP_AUTHORITY_URL.
//
// IDP_SCOPES has scopes, separated by commas or blanks. Their default is, for device_code, the
// IDENTITY and user_impersonation of CDF_CLUSTER, and otherwise [ClusterScopes] of
// CDF_CLUSTER, or IDENTITY and user_impersonation if PROVIDER is auth0. IDP_AUDIENCE is
// a parameter of client_credentials, and of device_code unless PROVIDER is entra_id. Its
// default is [ClusterURL] of CDF_CLUSTER; if PROVIDER is auth0, it is the address of
// CDF_PROJECT. The provider cdf has neither scopes nor an audience for
// client_credentials. IDP_LOGIN_HINT, which the toolkit does not have, is the LoginHint
// of interactive and device_code.
//
// Blanks and a pair of quotes around a value are dropped, and what is then empty is not
// set. CDF_URL is not read: it is the address of the API, which [NewHTTPClient] gets.
//
// FromEnv takes from o what the variables do not say. Its error names each variable that
// is wrong.
func FromEnv(getenv func(string) string, o Options) (Provider, error) {
	if getenv == nil {
		getenv = os.Getenv
	}
	credentials, wrong := fromToolkit(getenv)
	if credentials == nil {
		return nil, fmt.Errorf("cdfauth: FromEnv: %w", wrong.err())
	}
	provider, err := newProvider(credentials, o, wrong)
	if err != nil {
		return nil, fmt.Errorf("cdfauth: FromEnv: %w", err)
	}
	return provider, nil
}

// cogniteTokenURL is the token endpoint of CDF's own identity provider.
const cogniteTokenURL = "https://auth.cognite.com/oauth2/token"

// cogniteDeviceClient is the identifier of Cognite's app registration at Entra for the
// device code flow.
const cogniteDeviceClient = "fb9d503b-ac25-44c7-a75d-8fbcd3a206bd"

// entraTokenPath follows the authority in the address of an Entra tenant's token
// endpoint.
const entraTokenPath = "/oauth2/v2.0/token"

// A toolkit is the Cognite toolkit's environment.
type toolkit struct {
	// getenv returns the value of a variable, or "" if it is not set.
	getenv func(string) string

	// idp is the value of PROVIDER, flow that of LOGIN_FLOW. Both are valid.
	idp  string
	flow string

	// wrong has what is wrong with the variables.
	wrong *problems
}

// fromToolkit returns the credentials that are in the environment, and what is wrong with
// its variables so far. The credentials are nil if LOGIN_FLOW or PROVIDER is wrong, because
// it is then not known which variables count.
func fromToolkit(getenv func(string) string) (kindConfig, *problems) {
	t := &toolkit{getenv: getenv, wrong: &problems{variables: map[string]string{
		"token":               "CDF_TOKEN",
		"client_id":           "IDP_CLIENT_ID",
		"client_secret":       "IDP_CLIENT_SECRET",
		"token_url":           "IDP_TOKEN_URL",
		"authority_url":       "IDP_AUTHORITY_URL",
		"oauth_discovery_url": "IDP_DISCOVERY_URL",
		"scopes":              "IDP_SCOPES",
	}}}
	t.flow = t.oneOf("LOGIN_FLOW", "client_credentials", "device_code", "interactive", "token")
	t.idp = t.oneOf("PROVIDER", "entra_id", "auth0", "cdf", "other")
	if t.wrong.err() != nil {
		return nil, t.wrong
	}
	switch t.flow {
	case "token":
		return &staticToken{Token: t.text("CDF_TOKEN")}, t.wrong
	case "device_code":
		return t.deviceCode(), t.wrong
	case "interactive":
		return t.interactive(), t.wrong
	default:
		return t.clientCredentials(), t.wrong
	}
}

// text returns the value of a variable without blanks and a pair of quotes around it. The
// toolkit's template has quotes. Most loaders of .env files drop them, and some do not.
func (t *toolkit) text(name string) configText {
	value := strings.TrimSpace(t.getenv(name))
	last := len(value) - 1
	if last > 0 && value[0] == value[last] && (value[0] == '"' || value[0] == '\'') {
		value = strings.TrimSpace(value[1:last])
	}
	return configText(value)
}

// oneOf returns the value of a variable in lower case, or the first valid value if the
// variable is not set. Any value that is not valid is a problem.
func (t *toolkit) oneOf(name string, valid ...string) string {
	value := strings.ToLower(string(t.text(name)))
	if value == "" {
		return valid[0]
	}
	if !slices.Contains(valid, value) {
		t.wrong.add(name, "is %.64q: want one of %s", value, strings.Join(valid, ", "))
	}
	return value
}

// clientCredentials reads the variables of the flow client_credentials. For the provider
// cdf it ignores the others, which may be there for other programs.
func (t *toolkit) clientCredentials() kindConfig {
	c := &secretCredentials{
		ClientID:     t.text("IDP_CLIENT_ID"),
		ClientSecret: t.text("IDP_CLIENT_SECRET"),
	}
	if t.idp == "cdf" {
		c.TokenURL = cogniteTokenURL
		return c
	}
	c.Scopes = t.scopes()
	addParam(&c.Params, "audience", t.audience())
	c.TokenURL = t.text("IDP_TOKEN_URL")
	if c.TokenURL != "" || t.idp != "entra_id" {
		return c
	}
	tenant := t.tenant()
	if tenant == "" {
		t.wrong.variables["token_url"] = "IDP_TENANT_ID (or IDP_TOKEN_URL)"
		return c
	}
	t.wrong.variables["token_url"] = "IDP_TENANT_ID"
	c.TokenURL = tenant + entraTokenPath
	return c
}

// deviceCode reads the variables of the flow device_code. For entra_id it sets no audience,
// since the toolkit sends none there, and tokens that were requested with an audience are
// kept apart from those without. So both find the same tokens in the cache.
func (t *toolkit) deviceCode() kindConfig {
	c := &deviceCredentials{personKeys: t.personKeys()}
	if t.idp != "entra_id" {
		addParam(&c.Params, "audience", t.audience())
	} else if c.ClientID == "" {
		c.ClientID = cogniteDeviceClient
	}
	return c
}

// interactive reads the variables of the flow interactive, which has no audience.
func (t *toolkit) interactive() kindConfig {
	return &browserCredentials{personKeys: t.personKeys()}
}

// personKeys reads the variables that device_code and interactive have in common.
func (t *toolkit) personKeys() personKeys {
	k := personKeys{
		AuthorityURL: t.text("IDP_AUTHORITY_URL"),
		DiscoveryURL: t.text("IDP_DISCOVERY_URL"),
		ClientID:     t.text("IDP_CLIENT_ID"),
		Scopes:       t.scopes(),
		LoginHint:    t.text("IDP_LOGIN_HINT"),
	}
	if k.AuthorityURL == "" && t.idp == "entra_id" {
		k.AuthorityURL = t.entraAuthority()
	}
	// If both are set, one is dropped: an environment may be meant for several flows, and
	// have an address for each.
	switch {
	case k.AuthorityURL == "" || k.DiscoveryURL == "":
	case t.flow == "device_code" && t.idp != "entra_id":
		k.AuthorityURL = ""
	default:
		k.DiscoveryURL = ""
	}
	return k
}

// entraAuthority returns the address of an Entra tenant, from IDP_TENANT_ID or from the
// tenant's token endpoint in IDP_TOKEN_URL. It returns "" if neither is set. It records
// which variable a problem of the address is to be called by.
func (t *toolkit) entraAuthority() configText {
	tenant := t.tenant()
	if tenant != "" {
		t.wrong.variables["authority_url"] = "IDP_TENANT_ID"
		return tenant
	}
	tokenURL := string(t.text("IDP_TOKEN_URL"))
	authority, found := strings.CutSuffix(tokenURL, entraTokenPath)
	if found {
		t.wrong.variables["authority_url"] = "IDP_TOKEN_URL"
		return configText(authority)
	}
	t.wrong.variables["authority_url"] = "IDP_TENANT_ID (or IDP_AUTHORITY_URL)"
	return ""
}

// tenant returns the address of the Entra tenant that IDP_TENANT_ID names, or "" if that
// variable is not set. A bad name is a problem.
func (t *toolkit) tenant() configText {
	id := string(t.text("IDP_TENANT_ID"))
	if id == "" {
		return ""
	}
	if Entra(id).check(nil) != nil {
		t.wrong.add("IDP_TENANT_ID", "is %.64q: want a tenant's GUID or domain name", id)
	}
	return configText(entraRoot + id)
}

// scopes returns the scopes of IDP_SCOPES, or else the toolkit's default.
func (t *toolkit) scopes() configScopes {
	list := strings.FieldsFunc(string(t.text("IDP_SCOPES")), func(r rune) bool {
		return r == ',' || r == ' '
	})
	switch {
	case len(list) > 0:
		return list
	case t.flow == "device_code":
		return personScopes(t.cluster())
	case t.idp == "auth0":
		return configScopes{"IDENTITY", "user_impersonation"}
	default:
		return ClusterScopes(t.cluster())
	}
}

// audience returns IDP_AUDIENCE, or else the toolkit's default.
func (t *toolkit) audience() configText {
	audience := t.text("IDP_AUDIENCE")
	switch {
	case audience != "":
		return audience
	case t.idp == "auth0":
		project := t.text("CDF_PROJECT")
		t.wrong.require("CDF_PROJECT", project)
		return "https://" + project + ".fusion.cognite.com/" + project
	default:
		return configText(ClusterURL(t.cluster()))
	}
}

// cluster returns CDF_CLUSTER. A missing or bad name is a problem.
func (t *toolkit) cluster() string {
	cluster := t.text("CDF_CLUSTER")
	t.wrong.require("CDF_CLUSTER", cluster)
	if !isCluster(string(cluster)) {
		t.wrong.add("CDF_CLUSTER", "is %.64q: %s", string(cluster), wantCluster)
	}
	return string(cluster)
}
