//go:build go1.24

package cdfauth

import (
	"cmp"
	"os"
	"slices"
	"strings"
)

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
	s, flow := fromToolkit(getenv)
	return s.provider(flow, o)
}

func fromToolkit(getenv func(string) string) (s *loader, flow string) { // makes a configuration, in Load's terms, of the environment
	s = &loader{prefix: "cdfauth: FromEnv: ", values: map[string]any{}, names: map[string]string{"token": "CDF_TOKEN", "client_id": "IDP_CLIENT_ID",
		"client_secret": "IDP_CLIENT_SECRET", "token_url": "IDP_TOKEN_URL", "authority_url": "IDP_AUTHORITY_URL", "oauth_discovery_url": "IDP_DISCOVERY_URL",
		"scopes": "IDP_SCOPES", "audience": "IDP_AUDIENCE"}}
	oneOf := func(name string, valid ...string) string {
		v := strings.ToLower(cmp.Or(getenv(name), valid[0]))
		s.problem(!slices.Contains(valid, v), "%s is %.64q: want one of %s", name, v, strings.Join(valid, ", "))
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
		s.problem(noAudience && project == "", "CDF_PROJECT is missing")
	case cluster == "":
		s.problem(true, "CDF_CLUSTER is missing")
	case audience == badCluster:
		s.problem(true, "CDF_CLUSTER is %.64q: want the name of a cluster, such as greenfield or westeurope-1", cluster)
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
			s.problem(e.err != nil, "IDP_TENANT_ID is %.64q: want a tenant's GUID or domain name", tenant)
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
